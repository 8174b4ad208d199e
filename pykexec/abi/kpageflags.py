"""/proc/kpageflags: one word of flags for each page frame (include/uapi/linux/kernel-page-flags.h
and include/linux/kernel-page-flags.h)."""

KPF_BYTES = 8

KPF_LRU = 1 << 5
KPF_SLAB = 1 << 7
KPF_BUDDY = 1 << 10
KPF_MMAP = 1 << 11
KPF_ANON = 1 << 12
KPF_HUGE = 1 << 17
KPF_HWPOISON = 1 << 19
KPF_NOPAGE = 1 << 20
KPF_OFFLINE = 1 << 23
KPF_PGTABLE = 1 << 26
KPF_RESERVED = 1 << 32
