// SPDX-License-Identifier: GPL-2.0-only
/*
 * Make a crash region at run time.
 *
 * "crashkernel=" reserves memory for a crash kernel at boot and stores its
 * address in crashk_res. This module does the same on a kernel that was booted
 * without it: it allocates physically contiguous pages, marks them reserved,
 * and stores their address in crashk_res. From then on kexec_load(2), panic()
 * and everything between them is the kernel's own code; no code of this module
 * runs in a panic.
 *
 * crashk_res and __kexec_lock are not exported. User space passes their
 * addresses, which /proc/kallsyms shows to root, and the module verifies them:
 * the kernel has to know the address by the expected name (sprint_symbol()),
 * and crashk_res has to look like the resource that the kernel defines.
 *
 * A kernel without CONFIG_KALLSYMS_ALL has no names of variables. There the
 * module verifies what the kernel does with them: it refuses to show the size of
 * the region while __kexec_lock is held, and then shows the one in crashk_res.
 *
 * Errors of init_module(2), besides those of the module loader:
 *   EFAULT         an address is not that of the symbol it is passed for
 *   ERANGE         the size is not a multiple of a page, too small, or too large
 *   EBUSY          there is a crash region already
 *   ENOMEM         no contiguous memory of this size
 *   EAGAIN         another process held the kexec lock for five seconds
 *   EADDRNOTAVAIL  the resource tree did not accept the region
 *   EINTR          the process was killed
 * The kernel log has the reason for each.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/hugetlb.h>
#include <linux/ioport.h>
#include <linux/kallsyms.h>
#include <linux/kernel.h>
#include <linux/kexec.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pfn.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/uaccess.h>

/* Up to 6.15 the third argument of alloc_contig_range() is a migratetype. */
#ifndef ACR_FLAGS_NONE
#define ACR_FLAGS_NONE		MIGRATE_MOVABLE
#endif

#define REGION_MAX		SZ_4G
#define BLOCK_MAX		SZ_4M	/* larger ones are not one block of the page allocator */
#define RANGE_ALIGN		SZ_16M	/* where a bzImage prefers to be loaded */
#define LOCK_TRIES		500
#define LOCK_PAUSE_MS		10

static ulong region;
module_param(region, ulong, 0);
MODULE_PARM_DESC(region, "address of crashk_res");

static ulong lock;
module_param(lock, ulong, 0);
MODULE_PARM_DESC(lock, "address of __kexec_lock");

static ulong size = SZ_64K;
module_param(size, ulong, 0444);
MODULE_PARM_DESC(size, "bytes, a multiple of the page size (default 64K)");

static struct resource *crash;	/* the kernel's crashk_res */
static atomic_t *loading;	/* the kernel's __kexec_lock: 0 is free, 1 is held */
static struct page *pages;
static phys_addr_t start;

/* Whether the kernel can read @bytes bytes at @address. */
static bool __init is_readable(ulong address, size_t bytes)
{
	char copy[sizeof(struct resource)];

	return bytes <= sizeof(copy) && !copy_from_kernel_nofault(copy, (void *)address, bytes);
}

/*
 * Whether @address is the start of the kernel's own symbol @name, of @bytes
 * bytes. Without the names of variables, only whether there is memory.
 */
static bool __init is_symbol(ulong address, const char *name, size_t bytes)
{
	char found[KSYM_SYMBOL_LEN];
	size_t length = strlen(name);

	if (!address) {
		pr_err("the address of %s is missing\n", name);
		return false;
	}
	if (!IS_ENABLED(CONFIG_KALLSYMS_ALL)) {
		if (IS_ALIGNED(address, sizeof(int)) && is_readable(address, bytes))
			return true;
		pr_err("the address passed for %s is not one of the kernel's memory\n", name);
		return false;
	}
	sprint_symbol(found, address);
	/* "name+0x0/0x60", followed by " [module]" for a symbol of a module */
	if (!strncmp(found, name, length) && !strncmp(found + length, "+0x0/", 5) &&
	    !strchr(found, '['))
		return true;
	pr_err("the address passed for %s is that of %s\n", name, found);
	return false;
}

static int __init find_kernel_variables(void)
{
	if (!is_symbol(region, "crashk_res", sizeof(*crash)) ||
	    !is_symbol(lock, "__kexec_lock", sizeof(*loading)))
		return -EFAULT;
	crash = (struct resource *)region;
	loading = (atomic_t *)lock;
	if (crash->desc != IORES_DESC_CRASH_KERNEL ||
	    !is_readable((ulong)crash->name, sizeof("Crash kernel")) ||
	    strcmp(crash->name, "Crash kernel")) {
		pr_err("crashk_res does not describe a crash region on this kernel\n");
		return -EFAULT;
	}
	if (atomic_read(loading) & ~1) {
		pr_err("__kexec_lock has the value %#x on this kernel, not 0 or 1\n",
		       atomic_read(loading));
		return -EFAULT;
	}
	return 0;
}

static int __init check_size(void)
{
	if (!size || !PAGE_ALIGNED(size)) {
		pr_err("a size of %lu bytes is not a multiple of %lu\n", size, PAGE_SIZE);
		return -ERANGE;
	}
	if (size > REGION_MAX || size >> PAGE_SHIFT > totalram_pages() / 2) {
		pr_err("a size of %lu KiB is more than 4 GiB or half of the memory\n", size >> 10);
		return -ERANGE;
	}
	return 0;
}

/*
 * The lock under which the kernel loads, unloads, shrinks the region and enters
 * the crash kernel. The kernel uses it as a trylock, and holds it briefly.
 */
static bool lock_loads(void)
{
	int tries;

	for (tries = 0; tries < LOCK_TRIES; tries++) {
		if (atomic_cmpxchg_acquire(loading, 0, 1) == 0)
			return true;
		msleep(LOCK_PAUSE_MS);
	}
	return false;
}

static void unlock_loads(void)
{
	atomic_set_release(loading, 0);
}

/* The size of the region as the kernel shows it, which takes __kexec_lock, or an errno. */
static loff_t __init shown_size(void)
{
	struct file *file = filp_open("/sys/kernel/kexec_crash_size", O_RDONLY, 0);
	char text[24] = "";
	loff_t at = 0, found;
	ssize_t count;

	if (IS_ERR(file))
		return PTR_ERR(file);
	count = kernel_read(file, text, sizeof(text) - 1, &at);
	filp_close(file, NULL);
	if (count < 0)
		return count;
	return kstrtoll(strim(text), 10, &found) ? -EINVAL : found;
}

/* The same, after a load that is under way. */
static loff_t __init shown_size_later(void)
{
	loff_t found;
	int tries;

	for (tries = 0; tries < LOCK_TRIES; tries++) {
		found = shown_size();
		if (found != -EBUSY)
			break;
		msleep(LOCK_PAUSE_MS);
	}
	return found;
}

/* Whether @loading is the lock, on a kernel that does not know it by its name. */
static bool __init is_lock(void)
{
	loff_t held;

	if (shown_size_later() < 0 || !lock_loads())
		return false;
	held = shown_size();
	unlock_loads();
	return held == -EBUSY && shown_size_later() >= 0;
}

/* One block of the page allocator, which never takes these from ZONE_MOVABLE. */
static bool __init take_block(gfp_t where)
{
	unsigned int order = get_order(size);
	ulong i;

	if (size > BLOCK_MAX)
		return false;
	pages = alloc_pages(GFP_KERNEL | where | __GFP_RETRY_MAYFAIL | __GFP_NOWARN, order);
	if (!pages)
		return false;
	split_page(pages, order);
	for (i = size >> PAGE_SHIFT; i < 1UL << order; i++)
		__free_page(pages + i);
	return true;
}

/*
 * Whether a range may be cleared: all of it online memory of one zone other
 * than ZONE_MOVABLE, whose memory has to stay removable, and without reserved
 * pages. Huge pages are left alone: one of them may hold the image that an
 * armed kexec refers to by its physical address.
 */
static bool __init is_candidate(ulong first, ulong end)
{
	struct zone *zone = NULL;
	struct page *page;
	ulong pfn;

	for (pfn = first; pfn < end; pfn++) {
		page = pfn_to_online_page(pfn);
		if (!page || is_zone_movable_page(page) || PageReserved(page) || PageHuge(page))
			return false;
		if (zone && page_zone(page) != zone)
			return false;
		zone = page_zone(page);
	}
	return true;
}

struct span {
	u64 low;
	u64 high;
};

/* Take the highest suitable place in one range of RAM. 1 ends the walk. */
static int __init take_from(struct resource *ram, void *argument)
{
	struct span *span = argument;
	u64 low = max_t(u64, ram->start, span->low);
	u64 high = min_t(u64, ram->end + 1, span->high);
	u64 at;

	if (high < size || high - size < low)
		return 0;
	for (at = round_down(high - size, RANGE_ALIGN); at >= low; at -= RANGE_ALIGN) {
		ulong first = PHYS_PFN(at), end = PHYS_PFN(at + size);

		cond_resched();
		if (fatal_signal_pending(current))
			return -EINTR;
		if (is_candidate(first, end) &&
		    !alloc_contig_range(first, end, ACR_FLAGS_NONE,
					GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)) {
			pages = pfn_to_page(first);
			return 1;
		}
	}
	return 0;
}

/* Take any number of pages: their present contents are moved elsewhere. */
static bool __init take_range(u64 low, u64 high)
{
	struct span span = { .low = low, .high = high };

	if (fatal_signal_pending(current))
		return false;
	return walk_iomem_res_desc(IORES_DESC_NONE, IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY,
				   low, high - 1, &span, take_from) == 1;
}

/*
 * Below 4 GiB first, where the devices of a capture kernel that runs in the
 * region can reach it; and above 16 MiB, which is left for old devices.
 */
static int __init take_pages(void)
{
	ulong i;

	if (!take_block(GFP_DMA32) && !take_range(SZ_16M, SZ_4G) &&
	    !take_block(0) && !take_range(SZ_4G, U64_MAX)) {
		if (fatal_signal_pending(current))
			return -EINTR;
		pr_err("no %lu KiB of contiguous memory outside of ZONE_MOVABLE\n", size >> 10);
		return -ENOMEM;
	}
	start = PFN_PHYS(page_to_pfn(pages));
	for (i = 0; i < size >> PAGE_SHIFT; i++) {
		clear_highpage(pages + i);
		mark_page_reserved(pages + i);
		cond_resched();
	}
	return 0;
}

static void give_back(ulong bytes)
{
	ulong i;

	for (i = 0; i < bytes >> PAGE_SHIFT; i++) {
		free_reserved_page(pages + i);
		cond_resched();
	}
}

/* Under the lock. An empty region is 0..0 after boot, and may be N..N-1 after a shrink to 0. */
static int __init publish(void)
{
	if (crash->parent || crash->end > crash->start) {
		pr_err("there is a crash region already: %pR\n", crash);
		return -EBUSY;
	}
	crash->start = start;
	crash->end = start + size - 1;
	/* kexec_crash_size leaves links in a region that it has released. */
	crash->sibling = NULL;
	crash->child = NULL;
	if (!insert_resource(&iomem_resource, crash))
		return 0;
	pr_err("%pR overlaps another resource\n", crash);
	crash->start = 0;
	crash->end = 0;
	return -EADDRNOTAVAIL;
}

/* Whether @crash is what the kernel uses, on one that does not know it by its name. */
static int __init check_published(void)
{
	loff_t found = shown_size_later();

	/* Busy for so long: an image is being loaded, so there is a region. */
	if (found == size || found == -EBUSY)
		return 0;
	pr_err("the address passed for crashk_res is not that of the crash region\n");
	remove_resource(crash);
	crash->start = 0;
	crash->end = 0;
	return -EFAULT;
}

static int __init region_init(void)
{
	int err;

	err = find_kernel_variables();
	if (err)
		return err;
	err = check_size();
	if (err)
		return err;
	if (!IS_ENABLED(CONFIG_KALLSYMS_ALL) && !is_lock()) {
		pr_err("the address passed for __kexec_lock is not that of the lock\n");
		return -EFAULT;
	}
	/* An early check, so that nothing is moved in vain; publish() decides. */
	if (crash->parent) {
		pr_err("there is a crash region already: %pR\n", crash);
		return -EBUSY;
	}
	err = take_pages();
	if (err)
		return err;
	if (lock_loads()) {
		err = publish();
		unlock_loads();
	} else {
		pr_err("another process holds the kexec lock\n");
		err = -EAGAIN;
	}
	if (!err && !IS_ENABLED(CONFIG_KALLSYMS_ALL))
		err = check_published();
	if (err)
		give_back(size);
	else
		pr_info("crash region %pR\n", crash);
	return err;
}

/*
 * Release the region, or what kexec_crash_size has left of it. An image that is
 * loaded stays armed, and its region stays with it: once it is unloaded,
 * kexec_crash_size can release that.
 */
static void __exit region_exit(void)
{
	const char *kept = NULL;
	ulong rest = 0;

	if (!lock_loads()) {
		pr_err("another process holds the kexec lock: the crash region stays\n");
		return;
	}
	if (!crash->parent || crash->start != start)
		kept = "is not there any more";
	else if (kexec_crash_loaded())
		kept = "stays, an image is loaded";
	else if (remove_resource(crash))
		kept = "stays, it cannot be removed from the resource tree";
	else
		rest = resource_size(crash);
	if (rest) {
		crash->start = 0;
		crash->end = 0;
	}
	unlock_loads();

	give_back(rest);
	pr_info("crash region %s\n", kept ?: "released");
}

module_init(region_init);
module_exit(region_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Make a kexec crash region at run time");
MODULE_VERSION("0.1");
