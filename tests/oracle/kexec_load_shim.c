/* LD_PRELOAD for kexec-tools: its kexec_load(2) is recorded in the file $KEXEC_LOAD_TO and
 * fails. The kernel never sees the call.
 *
 * The file: entry, number of segments, flags (u64 each); then for each segment bufsz, mem,
 * memsz (u64 each) and its bufsz bytes. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define NR_KEXEC_LOAD 246

struct segment {
	const void *buf;
	unsigned long bufsz, mem, memsz;
};

static void put(FILE *file, unsigned long value)
{
	fwrite(&value, sizeof(value), 1, file);
}

long syscall(long number, ...)
{
	long a[6], result;
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);

	if (number == NR_KEXEC_LOAD) {
		const struct segment *segments = (const void *)a[2];
		FILE *file = fopen(getenv("KEXEC_LOAD_TO"), "wb");

		put(file, a[0]);
		put(file, a[1]);
		put(file, a[3]);
		for (long i = 0; i < a[1]; i++) {
			put(file, segments[i].bufsz);
			put(file, segments[i].mem);
			put(file, segments[i].memsz);
			fwrite(segments[i].buf, 1, segments[i].bufsz, file);
		}
		fclose(file);
		errno = EPERM;
		return -1;
	}
	register long r10 __asm__("r10") = a[3];
	register long r8 __asm__("r8") = a[4];
	register long r9 __asm__("r9") = a[5];
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	if (result < 0 && result > -4096) {
		errno = -result;
		return -1;
	}
	return result;
}
