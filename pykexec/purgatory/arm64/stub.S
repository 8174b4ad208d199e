/*
 * The machine code between two kernels, for arm64.
 *
 * One blob, two uses, as on x86_64.  As the *purgatory* of a normal kexec
 * image it checks the pages where the kernel has moved them.  As *crash stub*
 * it is all that a tiny crashkernel= reservation holds: it checks the capture
 * kernel where that waits, exchanges the pages with those of the crashed
 * kernel, and starts it.
 *
 * What it may rely on at offset 0 (arch/arm64/kernel/cpu-reset.S,
 * relocate_kernel.S): MMU and data cache off, and its own segment, with the
 * page tables in it, cleaned to the point of coherency.  It is entered at EL1,
 * or at EL2 with or without VHE: where the first kernel was entered itself.
 *
 * With the MMU off, data accesses are uncached and have to be aligned, which
 * costs minutes.  So the loader leaves page tables: an identity map of what
 * the stub touches.  With them everything runs cached, and what the next
 * kernel will read with its MMU off is cleaned before the jump.  Without them
 * (or on a processor without 4 KiB pages) it works too, slowly.  Either way
 * the loader needs to clean nothing: with the MMU on the caches are coherent,
 * and with the MMU off the memory is cleaned before it is read.
 *
 * Rules kept throughout:
 *   - Nothing is used before it is checked, and on a mismatch the kernel is
 *     never started: a broken capture kernel may still own the disks.
 *   - Every wait ends.  A dead UART or counter must not cost the dump.
 *   - Nothing is written before the MMU is on: a clean line of the old kernel
 *     may still cover the scratch page, and hide what is written past it.
 *   - The code never writes to its own pages.
 *
 * Registers with one meaning throughout:
 *   x22  the page tables, or 0 while the MMU is off
 *   x23  ticks of the counter in a second, or 0 if it is dead
 *   w24  what has gone wrong: 0 nothing, 1 an exception, 2 a reset failed
 *   w25  1: use the SHA-256 instructions
 *   x26  SCTLR at the entry
 *   w27  1: at EL2 without VHE, where registers have other names
 *   x28  the UART, or 0: be silent
 *
 * Only scripts/build-stub builds this; stub.lds says where it goes.
 */

/* struct region, struct seal: what to check, and what it should be. */
	.equ	REGION_ADDR,	0
	.equ	REGION_SIZE,	8
	.equ	REGION_SHA256,	16
	.equ	REGION_BYTES,	48

/* struct exchange: two spans of memory that change places. */
	.equ	EXCHANGE_DEST,	0
	.equ	EXCHANGE_SOURCE, 8
	.equ	EXCHANGE_SIZE,	16
	.equ	EXCHANGE_BYTES,	24

	.equ	FLAG_NO_CHECKS,	1
	.equ	FLAG_RESET_SMC,	2		/* PSCI is called by SMC ... */
	.equ	FLAG_RESET_HVC,	4		/* ... or by HVC; by neither: halt */
	.equ	FLAG_IN_USE_BIT, 3		/* devices may write where the image goes */
	.equ	FLAG_IN_USE,	1 << FLAG_IN_USE_BIT

	.equ	UART_PL011,	1
	.equ	UART_8250,	2
	.equ	PL011_FR,	0x18
	.equ	FR_BUSY,	0x08
	.equ	FR_TXFF,	0x20
	.equ	LSR,		5
	.equ	LSR_THRE,	0x20		/* takes another character */
	.equ	LSR_TEMT,	0x40		/* the last one is on the wire */
/*
 * A read of a device takes about a tenth of a microsecond, so this is a tenth
 * of a second: what 16 characters, a full FIFO, need at 1200 baud.
 */
	.equ	UART_POLLS,	0x100000

/* The counter ticks at 1 MHz at least: this many equal reads, and it is dead. */
	.equ	EQUAL_READS,	0x10000
/* An ISB takes about 10 ns: a second has no more than this many polls. */
	.equ	POLLS_A_SECOND,	0x10000000
/* From then on a second is this many ISBs. */
	.equ	SPINS_A_SECOND,	0x4000000

	.equ	PSCI_SYSTEM_RESET, 0x84000009

	.equ	HCR_E2H_BIT,	34
	.equ	CPACR_FPEN,	3 << 20		/* do not trap SIMD */
	.equ	CPTR_TFP,	1 << 10
	.equ	SCTLR_M_C_I,	0x1005
	.equ	SCTLR_A,	1 << 1
	.equ	SCTLR_WXN,	1 << 19
	.equ	MAIR,		0x04ff		/* 0: write-back, 1: Device-nGnRE */
/* T0SZ 16: 48 bits; walks write-back, inner shareable; 4 KiB pages. */
	.equ	TCR,		0x3510
	.equ	TCR_EPD1,	1 << 23		/* no upper half */
	.equ	TCR_EL2_RES1,	0x8080		/* the upper half */
	.equ	PARANGE_48,	5

	.text

/* ------------------------------------------------------------------------
 * The head: fixed offsets, known to pykexec/purgatory/arm64/stub.py.
 */
	.globl	stub
stub:
	b	start

	.balign	8, 0
	.word	stub_size		/* bytes of this file: bufsz */
	.word	stub_memsz		/* with scratch and stack: memsz */
params:					/* offset 16; struct stub_params */
p_magic:	.ascii	"PYKEXECA"
p_dtb:		.quad	0
p_entry:	.quad	0
p_tables:	.quad	0
p_n_regions:	.word	0
p_n_exchanges:	.word	0
p_tables_sha256: .skip	32
p_seal:		.quad	0
p_page_tables:	.quad	0
p_window:	.quad	0
p_window_size:	.quad	0
p_uart:		.quad	0
p_uart_kind:	.word	0
p_uart_shift:	.word	0
p_uart_width:	.word	0
p_flags:	.word	0
p_reset_seconds: .word	0
p_settle_seconds: .word	0
params_end:

/* ------------------------------------------------------------------------
 * A machine state of our own.  From the write to VBAR on a fault is a line on
 * the serial port.
 */
start:
	msr	daifset, #15
	msr	spsel, #1
	adr	x0, stack_top
	mov	sp, x0
	ldr	x28, p_uart
	mrs	x23, cntfrq_el0
	mov	w23, w23
	mov	w24, #0
	mov	x22, #0

	mov	w27, #0
	adr	x1, vectors
	mrs	x0, CurrentEL
	cmp	x0, #(2 << 2)
	b.ne	1f
	mrs	x0, hcr_el2
	tbnz	x0, #HCR_E2H_BIT, 1f
	mov	w27, #1
	mrs	x0, cptr_el2
	bic	x0, x0, #CPTR_TFP
	msr	cptr_el2, x0
	msr	vbar_el2, x1
	b	2f
1:	mrs	x0, cpacr_el1		/* at EL2 with VHE: CPTR_EL2 */
	orr	x0, x0, #CPACR_FPEN
	msr	cpacr_el1, x0
	msr	vbar_el1, x1
2:	isb

	/*
	 * The instructions for SHA-256, if there are any.  With SME the crashed
	 * task may have left the processor in streaming mode, which has none.
	 */
	mrs	x0, id_aa64isar0_el1
	ubfx	x0, x0, #12, #4		/* SHA2 */
	mrs	x1, id_aa64pfr1_el1
	ubfx	x1, x1, #24, #4		/* SME */
	cmp	x0, #0
	ccmp	x1, #0, #0, ne
	cset	w25, eq

	ldr	x0, p_page_tables
	cbz	x0, 1f
	bl	mmu_on
1:

/* ------------------------------------------------------------------------
 * Check everything that will be used, in the order of the trust: the tables
 * by the digest in the head, the regions by the tables.
 */
	ldr	w0, p_flags
	tbnz	w0, #0, unchecked	/* FLAG_NO_CHECKS */
	adr	x0, s_checking
	bl	say

	bl	tables_size
	cbz	x1, check_seal		/* no records: no tables to look at */
	ldr	x0, p_tables
	bl	sha256
	adr	x0, p_tables_sha256
	bl	compare
	adr	x0, s_tables
	b.ne	mismatch

	/* Uncached, so the caches give up first what they still hold of it. */
	cbnz	x22, 1f
	bl	clean_everything
1:	mov	w21, #0
	bl	check_regions

	/*
	 * The ELF core headers of a crash by normal come last into being, after
	 * the load: a record of their own vouches.  Its size is 0 until then.
	 */
check_seal:
	ldr	x19, p_seal
	cbz	x19, settle
	ldr	x1, [x19, #REGION_SIZE]
	adr	x0, s_unbound
	cbz	x1, mismatch
	mov	x0, x19
	bl	check_record
	adr	x0, s_headers
	b.ne	mismatch
	b	settle

unchecked:
	adr	x0, s_unchecked
	bl	say
	cbnz	x22, settle
	bl	clean_everything

/* ------------------------------------------------------------------------
 * Wait, before anything is moved: devices may still write into the memory
 * that the exchange is about to use.  A dot for each second.
 */
settle:
	ldr	w20, p_settle_seconds
	cbz	w20, exchange
	adr	x0, s_waiting
	bl	say
	mov	x0, x20
	bl	put_decimal
	adr	x0, s_for_devices
	bl	say
1:	bl	second
	mov	w0, #'.'
	bl	put
	subs	w20, w20, #1
	b.ne	1b
	adr	x0, s_newline
	bl	say

/* Exchange: four words a turn, then what is left, word by word. */
exchange:
	bl	exchanges
2:	cbz	w20, exchanged
	ldp	x0, x1, [x19], #16
	ldr	x2, [x19], #8
	subs	x2, x2, #32
	b.lo	4f
3:	ldp	x4, x5, [x0]
	ldp	x6, x7, [x0, #16]
	ldp	x8, x9, [x1]
	ldp	x10, x11, [x1, #16]
	stp	x8, x9, [x0], #16
	stp	x10, x11, [x0], #16
	stp	x4, x5, [x1], #16
	stp	x6, x7, [x1], #16
	subs	x2, x2, #32
	b.hs	3b
4:	adds	x2, x2, #32
	sub	w20, w20, #1
	b.eq	2b
5:	ldr	x4, [x0]
	ldr	x5, [x1]
	str	x5, [x0], #8
	str	x4, [x1], #8
	subs	x2, x2, #8
	b.hi	5b
	b	2b

/* ------------------------------------------------------------------------
 * Start the kernel as booting.rst wants: MMU off, the memory that it will use
 * cleaned to the point of coherency, no stale instructions; x0 is the device
 * tree, x1 to x3 are 0.
 */
exchanged:
	/* Where the image is now, a device may have written. */
	ldr	w0, p_flags
	tbz	w0, #FLAG_IN_USE_BIT, 1f
	tbnz	w0, #0, 1f		/* FLAG_NO_CHECKS */
	adr	x0, s_again
	bl	say
	ldr	w21, p_n_exchanges
	bl	check_regions
1:	adr	x0, s_starting
	bl	say
	mov	w3, #1			/* the kernel may clear the FIFO */
	bl	uart_wait

	bl	clean_everything
	cbz	x22, 1f
	bl	mmu_off
1:	ic	iallu
	dsb	sy
	isb
	ldr	x16, p_entry
	ldr	x0, p_dtb
	mov	x1, xzr
	mov	x2, xzr
	mov	x3, xzr
	br	x16

/* ------------------------------------------------------------------------
 * Refusals.  All of them end in the reset or the halt, never in the kernel.
 */
region_mismatch:			/* w20: index, x29: where it is */
	adr	x0, s_region
	bl	say
	mov	w0, w20
	bl	put_decimal
	adr	x0, s_at
	bl	say
	mov	x0, x29
	bl	put_hex
	adr	x0, s_no_match

mismatch:				/* x0: what to say */
	bl	say

refuse:
	adr	x0, s_refused
	bl	say
	ldr	w20, p_reset_seconds
	cbz	w20, halt_aloud
	adr	x0, s_reset
	bl	say
	mov	w0, w20
	bl	put_decimal
	adr	x0, s_seconds
	bl	say
1:	bl	second
	subs	w20, w20, #1
	b.ne	1b

reset:					/* an HVC without a hypervisor is a fault */
	mov	w24, #2
	ldr	w1, p_flags
	movz	w0, #(PSCI_SYSTEM_RESET & 0xffff)
	movk	w0, #(PSCI_SYSTEM_RESET >> 16), lsl #16
	mrs	x2, CurrentEL
	cmp	x2, #(2 << 2)
	b.eq	1f			/* at EL2 only SMC leads to the firmware */
	tbz	w1, #2, 1f		/* FLAG_RESET_HVC */
	hvc	#0
	b	2f
1:	tst	w1, #(FLAG_RESET_SMC | FLAG_RESET_HVC)
	b.eq	2f
	smc	#0
2:	adr	x0, s_failed
	bl	say

halt_aloud:
	adr	x0, s_halted
	bl	say
halt:	wfi
	b	halt

/*
 * Any exception is the end: the tables point to memory that is not there, or
 * the hardware fails.  But for one: a UART that does not answer is given up.
 * Interrupts and SErrors are masked, an SError for the kernel ahead to report.
 */
exception:				/* w0: vector; x0 and x1 are on the stack */
	mrs	x1, elr_el1		/* at EL2 with VHE: ELR_EL2 */
	cbz	w27, 1f
	mrs	x1, elr_el2
1:	adr	x2, uart_code		/* x2 is free in all UART code */
	cmp	x1, x2
	b.lo	2f
	adr	x2, uart_code_end
	cmp	x1, x2
	b.lo	uart_fault
2:	cbnz	w24, fault_in_fault
	mov	w24, #1
	mov	w19, w0
	mov	x20, x1
	adr	x0, stack_top
	mov	sp, x0
	adr	x0, s_exception
	bl	say
	mov	w0, w19
	bl	put_decimal
	adr	x0, s_at
	bl	say
	mov	x0, x20
	bl	put_hex
	adr	x0, s_stub_at
	bl	say
	adr	x0, stub
	bl	put_hex
	adr	x0, s_esr
	bl	say
	mrs	x0, esr_el1
	mrs	x20, far_el1
	cbz	w27, 3f
	mrs	x0, esr_el2
	mrs	x20, far_el2
3:	bl	put_hex
	adr	x0, s_far
	bl	say
	mov	x0, x20
	bl	put_hex
	adr	x0, s_newline
	bl	say
	b	refuse

uart_fault:
	mov	x28, #0
	adr	x0, uart_gone
	cbnz	w27, 1f
	msr	elr_el1, x0
	b	2f
1:	msr	elr_el2, x0
2:	ldp	x0, x1, [sp], #16
	eret

fault_in_fault:				/* no more words, just the end */
	cmp	w24, #2
	b.hs	halt
	ldr	w0, p_reset_seconds
	cbz	w0, halt
	mov	x28, #0
	b	reset

/* ------------------------------------------------------------------------
 * Serial port.  Polled, and given up for good at the first sign of death.
 *
 * say: the string at x0.  Changes x0 to x15.
 */
say:
	stp	x19, x30, [sp, #-16]!
	mov	x19, x0
1:	ldrb	w0, [x19], #1
	cbz	w0, 2f
	bl	put
	b	1b
2:	ldp	x19, x30, [sp], #16
	ret

/* put_decimal, put_hex: the number x0.  Change x0 to x15. */
put_decimal:
	mov	x1, #10
	b	put_number
put_hex:
	mov	x1, #16
put_number:
	str	x30, [sp, #-48]!
	add	x2, sp, #47
	strb	wzr, [x2]
1:	udiv	x3, x0, x1
	msub	x4, x3, x1, x0
	add	w4, w4, #'0'
	cmp	w4, #'9'
	b.ls	2f
	add	w4, w4, #('a' - '0' - 10)
2:	strb	w4, [x2, #-1]!
	mov	x0, x3
	cbnz	x0, 1b
	mov	x0, x2
	bl	say
	ldr	x30, [sp], #48
	ret

/* A fault from here to uart_code_end is the UART's; it returns to x30. */
uart_code:

/* put: the character w0.  Changes x3 to x15. */
put:
	mov	x15, x30
	mov	w3, #0
	bl	uart_wait
	mov	x30, x15
	cbz	x28, 3f
	ldr	w6, p_uart_width
	cmp	w6, #2
	b.eq	1f
	b.hi	2f
	strb	w0, [x28]
	ret
1:	strh	w0, [x28]
	ret
2:	str	w0, [x28]
3:	ret

/*
 * uart_wait: until it takes a character, or with w3 1 until all are on the
 * wire.  Clears x28 if it does not.  Changes x4 to x11.
 */
uart_wait:
	cbz	x28, 6f
	ldr	w4, p_uart_kind
	ldr	w5, p_uart_shift
	ldr	w6, p_uart_width
	mov	w7, #UART_POLLS
	cmp	w4, #UART_PL011
	b.ne	1f
	add	x8, x28, #PL011_FR
	mov	w9, #FR_TXFF
	mov	w10, #FR_BUSY
	b	2f
1:	mov	w8, #LSR
	lsl	w8, w8, w5
	add	x8, x28, x8
	mov	w9, #LSR_THRE
	mov	w10, #LSR_TEMT
2:	cmp	w3, #0
	csel	w9, w9, w10, eq
3:	cmp	w6, #2
	b.eq	7f
	b.hi	8f
	ldrb	w11, [x8]
4:	and	w11, w11, #0xff
	cmp	w11, #0xff		/* what a device that is gone reads */
	b.eq	5f
	cmp	w4, #UART_PL011
	csinv	w11, w11, w11, ne	/* its bits say what is not yet so */
	tst	w11, w9
	b.ne	6f
	subs	w7, w7, #1
	b.ne	3b
5:	mov	x28, #0
6:	ret
7:	ldrh	w11, [x8]
	b	4b
8:	ldr	w11, [x8]
	b	4b
uart_code_end:
uart_gone:
	ret

/* The vectors: 16 of 32 instructions each, of which three are used. */
	.balign	2048, 0
vectors:
	.set	vector, 0
	.rept	16
	.balign	128, 0
	stp	x0, x1, [sp, #-16]!
	mov	w0, #vector
	b	exception
	.set	vector, vector + 1
	.endr

/* ------------------------------------------------------------------------
 * MMU and caches.
 *
 * mmu_on: by the tables at x0.  Changes x0 to x5, x22, x26.
 */
mmu_on:
	mrs	x2, id_aa64mmfr0_el1
	ubfx	x1, x2, #28, #4		/* TGran4: 15 if there are no 4 KiB pages */
	cmp	x1, #15
	b.eq	4f
	and	x2, x2, #15		/* PARange */
	mov	x3, #PARANGE_48
	cmp	x2, x3
	csel	x2, x3, x2, hi
	mov	x22, x0
	mov	x1, #MAIR
	mov	x3, #TCR
	/*
	 * Permission indirection (TCR2.PIE, Linux since 6.13) would give our
	 * descriptors another meaning.  ID_AA64MMFR3_EL1.TCRX: there is a TCR2.
	 */
	mrs	x4, s3_0_c0_c7_3
	and	x4, x4, #15
	mov	x5, #SCTLR_WXN
	orr	x5, x5, #SCTLR_A
	cbnz	w27, 2f

	cbz	x4, 1f
	msr	s3_0_c2_c0_3, xzr	/* TCR2_EL1; at EL2 with VHE: TCR2_EL2 */
1:	orr	x3, x3, #TCR_EPD1
	orr	x3, x3, x2, lsl #32	/* IPS */
	msr	mair_el1, x1
	msr	tcr_el1, x3
	msr	ttbr0_el1, x0
	isb
	tlbi	vmalle1
	dsb	nsh
	isb
	mrs	x26, sctlr_el1
	bic	x5, x26, x5
	mov	x4, #SCTLR_M_C_I
	orr	x5, x5, x4
	msr	sctlr_el1, x5
	isb
	ret

2:	cbz	x4, 3f
	msr	s3_4_c2_c0_3, xzr	/* TCR2_EL2 */
3:	movz	x4, #TCR_EL2_RES1, lsl #16
	orr	x3, x3, x4
	orr	x3, x3, x2, lsl #16	/* PS */
	msr	mair_el2, x1
	msr	tcr_el2, x3
	msr	ttbr0_el2, x0
	isb
	tlbi	alle2
	dsb	nsh
	isb
	mrs	x26, sctlr_el2
	bic	x5, x26, x5
	mov	x4, #SCTLR_M_C_I
	orr	x5, x5, x4
	msr	sctlr_el2, x5
	isb
4:	ret

/* mmu_off: from here on only registers, and what was cleaned, can be trusted. */
mmu_off:
	dsb	sy
	mov	x22, #0
	cbnz	w27, 1f
	msr	sctlr_el1, x26
	isb
	tlbi	vmalle1
	b	2f
1:	msr	sctlr_el2, x26
	isb
	tlbi	alle2
2:	dsb	nsh
	isb
	ret

/*
 * clean_everything: regions, exchanges, the window, and our own scratch, to
 * the point of coherency.  Changes x0 to x3, x19, x20.
 */
clean_everything:
	stp	x21, x30, [sp, #-16]!
	ldr	x19, p_tables
	ldr	w20, p_n_regions
1:	cbz	w20, 2f
	ldp	x0, x1, [x19, #REGION_ADDR]
	bl	clean
	add	x19, x19, #REGION_BYTES
	sub	w20, w20, #1
	b	1b
2:	ldr	w20, p_n_exchanges
3:	cbz	w20, 4f
	ldr	x0, [x19, #EXCHANGE_DEST]
	ldr	x1, [x19, #EXCHANGE_SIZE]
	bl	clean
	ldr	x0, [x19, #EXCHANGE_SOURCE]
	ldr	x1, [x19, #EXCHANGE_SIZE]
	bl	clean
	add	x19, x19, #EXCHANGE_BYTES
	sub	w20, w20, #1
	b	3b
4:	ldr	x0, p_window
	ldr	x1, p_window_size
	bl	clean
	ldp	x21, x30, [sp], #16	/* nothing on the stack is wanted any more */
	adr	x0, scratch
	mov	x1, #(stack_top - scratch)

/* clean: x1 bytes at x0.  Changes x0 to x3. */
clean:
	cbz	x1, 2f
	add	x1, x0, x1
	mrs	x2, ctr_el0
	ubfx	x2, x2, #16, #4		/* DminLine: log2 of words */
	mov	x3, #4
	lsl	x3, x3, x2
	sub	x2, x3, #1
	bic	x0, x0, x2
1:	dc	civac, x0
	add	x0, x0, x3
	cmp	x0, x1
	b.lo	1b
2:	dsb	sy
	ret

/* ------------------------------------------------------------------------
 * The records.
 *
 * tables_size: into x1.  Changes x0, x2.
 */
tables_size:
	ldr	w0, p_n_regions
	mov	x1, #REGION_BYTES
	mul	x1, x1, x0
	ldr	w0, p_n_exchanges
	mov	x2, #EXCHANGE_BYTES
	madd	x1, x2, x0, x1
	ret

/* exchanges: the first into x19, their number into w20.  Changes x0, x1. */
exchanges:
	ldr	w0, p_n_regions
	mov	x1, #REGION_BYTES
	ldr	x19, p_tables
	madd	x19, x0, x1, x19
	ldr	w20, p_n_exchanges
	ret

/*
 * check_regions: all of them, where they are after the first w21 exchanges; a
 * region lies in the source of one, or in that of none.  Returns if they match.
 * Changes x0 to x20, x29, and all SIMD registers.
 */
check_regions:
	str	x30, [sp, #-16]!
	ldr	x19, p_tables
	mov	w20, #0
1:	ldr	w1, p_n_regions
	cmp	w20, w1
	b.hs	5f
	ldr	x0, [x19, #REGION_ADDR]
	mov	x2, #REGION_BYTES
	ldr	x3, p_tables
	madd	x1, x1, x2, x3
	mov	w2, w21
2:	cbz	w2, 4f
	ldp	x3, x4, [x1]		/* dest, source */
	ldr	x5, [x1, #EXCHANGE_SIZE]
	sub	x6, x0, x4
	cmp	x6, x5
	b.lo	3f
	add	x1, x1, #EXCHANGE_BYTES
	sub	w2, w2, #1
	b	2b
3:	add	x0, x3, x6
4:	mov	x29, x0
	ldr	x1, [x19, #REGION_SIZE]
	mov	x2, x19
	bl	check_at
	b.ne	region_mismatch
	add	x19, x19, #REGION_BYTES
	add	w20, w20, #1
	b	1b
5:	ldr	x30, [sp], #16
	ret

/*
 * check_record: does what the record at x0 (region or seal) speaks of match
 * its digest?  check_at: the same for x1 bytes at x0 and the record at x2.
 * compare: is the digest just made the one at x0?  EQ says yes.
 * All change x0 to x17, and the first two all SIMD registers.
 */
check_record:
	mov	x2, x0
	ldp	x0, x1, [x2, #REGION_ADDR]
check_at:
	stp	x21, x30, [sp, #-16]!
	mov	x21, x2
	bl	sha256
	add	x0, x21, #REGION_SHA256
	ldp	x21, x30, [sp], #16
compare:
	adr	x1, digest
	ldp	x2, x3, [x0]
	ldp	x4, x5, [x1]
	cmp	x2, x4
	ccmp	x3, x5, #0, eq
	ldp	x2, x3, [x0, #16]
	ldp	x4, x5, [x1, #16]
	ccmp	x2, x4, #0, eq
	ccmp	x3, x5, #0, eq
	ret

/* ------------------------------------------------------------------------
 * Time.  second: wait a second.  A counter that stands still, goes back or
 * crawls is given up for good.  Changes x0 to x5.
 */
second:
	cbz	x23, 5f
	isb
	mrs	x0, cntvct_el0
	add	x1, x0, x23		/* the end */
	mov	w2, #EQUAL_READS
	mov	w3, #POLLS_A_SECOND
1:	subs	w3, w3, #1
	b.eq	4f			/* a second is over, whatever it says */
	isb
	mrs	x4, cntvct_el0
	cmp	x4, x0
	b.eq	2f
	b.lo	3f
	mov	x0, x4
	mov	w2, #EQUAL_READS
	cmp	x4, x1
	b.lo	1b
	ret
2:	subs	w2, w2, #1
	b.ne	1b
3:	mov	x23, #0
	b	5f
4:	mov	x23, #0
	ret
5:	mov	w3, #SPINS_A_SECOND
6:	isb
	subs	w3, w3, #1
	b.ne	6b
	ret

/* ------------------------------------------------------------------------
 * SHA-256 (FIPS 180-4).
 *
 * sha256: of x1 bytes at x0, which are at a multiple of 8, into digest.
 * Changes x0 to x17 and all SIMD registers.
 */
sha256:
	stp	x19, x30, [sp, #-16]!
	mov	x19, x1
	adr	x2, sha256_h
	adr	x3, digest
	ldp	x4, x5, [x2]
	ldp	x6, x7, [x2, #16]
	stp	x4, x5, [x3]
	stp	x6, x7, [x3, #16]
	lsr	x1, x1, #6
	bl	sha256_blocks

	/* The rest, 0x80, zeros, the length in bits: one block more, or two. */
	and	x2, x19, #63
	adr	x3, pad
	mov	x4, #0
1:	cmp	x4, x2
	b.eq	2f
	ldrb	w5, [x0, x4]
	strb	w5, [x3, x4]
	add	x4, x4, #1
	b	1b
2:	mov	w5, #0x80
	strb	w5, [x3, x4]
	add	x4, x4, #1
	cmp	x2, #(64 - 8)
	mov	x1, #1
	cinc	x1, x1, hs
	lsl	x6, x1, #6
	sub	x6, x6, #8
3:	cmp	x4, x6
	b.eq	4f
	strb	wzr, [x3, x4]
	add	x4, x4, #1
	b	3b
4:	lsl	x5, x19, #3
	rev	x5, x5
	str	x5, [x3, x6]
	mov	x0, x3
	bl	sha256_blocks

	adr	x3, digest		/* words to bytes */
	ldp	x4, x5, [x3]
	ldp	x6, x7, [x3, #16]
	rev32	x4, x4
	rev32	x5, x5
	rev32	x6, x6
	rev32	x7, x7
	stp	x4, x5, [x3]
	stp	x6, x7, [x3, #16]
	ldp	x19, x30, [sp], #16
	ret

/* sha256_blocks: x1 blocks of 64 bytes at x0; moves x0 past them. */
sha256_blocks:
	cbz	x1, 2f
	adr	x2, digest
	cbz	w25, scalar_blocks
	.arch_extension crypto
	ld1	{v0.4s, v1.4s}, [x2]
1:	ld1	{v4.16b, v5.16b, v6.16b, v7.16b}, [x0], #64
	rev32	v4.16b, v4.16b
	rev32	v5.16b, v5.16b
	rev32	v6.16b, v6.16b
	rev32	v7.16b, v7.16b
	mov	v2.16b, v0.16b
	mov	v3.16b, v1.16b
	adr	x3, sha256_k

	.macro	FOUR m0, m1, m2, m3, more
	ld1	{v16.4s}, [x3], #16
	add	v17.4s, v16.4s, \m0\().4s
	mov	v18.16b, v0.16b
	sha256h	q0, q1, v17.4s
	sha256h2 q1, q18, v17.4s
	.if	\more
	sha256su0 \m0\().4s, \m1\().4s
	sha256su1 \m0\().4s, \m2\().4s, \m3\().4s
	.endif
	.endm

	.rept	3
	FOUR	v4, v5, v6, v7, 1
	FOUR	v5, v6, v7, v4, 1
	FOUR	v6, v7, v4, v5, 1
	FOUR	v7, v4, v5, v6, 1
	.endr
	FOUR	v4, v5, v6, v7, 0
	FOUR	v5, v6, v7, v4, 0
	FOUR	v6, v7, v4, v5, 0
	FOUR	v7, v4, v5, v6, 0
	add	v0.4s, v0.4s, v2.4s
	add	v1.4s, v1.4s, v3.4s
	subs	x1, x1, #1
	b.ne	1b
	st1	{v0.4s, v1.4s}, [x2]
2:	ret

/*
 * One round.  \bc holds b ^ c and becomes scratch; \ab is left holding a ^ b,
 * which is the next round's b ^ c: majority is ((a ^ b) & (b ^ c)) ^ b.
 */
	.macro	ROUND a, b, c, d, e, f, g, h, bc, ab, i
	ldr	w6, [x3, #(4 * \i)]	/* w */
	ldr	w7, [x4, #(4 * \i)]	/* k */
	add	\h, \h, w6
	add	\h, \h, w7
	ror	w6, \e, #6		/* S1 */
	eor	w6, w6, \e, ror #11
	eor	w6, w6, \e, ror #25
	add	\h, \h, w6
	eor	w7, \f, \g		/* Ch = ((f ^ g) & e) ^ g */
	and	w7, w7, \e
	eor	w7, w7, \g
	add	\h, \h, w7
	add	\d, \d, \h
	eor	\ab, \a, \b
	and	\bc, \bc, \ab
	eor	\bc, \bc, \b
	add	\h, \h, \bc
	ror	w6, \a, #2		/* S0 */
	eor	w6, w6, \a, ror #13
	eor	w6, w6, \a, ror #22
	add	\h, \h, w6
	.endm

scalar_blocks:
	adr	x3, schedule
	mov	w4, #8
1:	ldr	x5, [x0], #8
	rev32	x5, x5
	str	x5, [x3], #8
	subs	w4, w4, #1
	b.ne	1b

	mov	w4, #48
2:	ldur	w5, [x3, #-60]
	ldur	w6, [x3, #-8]
	ror	w7, w5, #7		/* s0 */
	eor	w7, w7, w5, ror #18
	eor	w7, w7, w5, lsr #3
	ror	w8, w6, #17		/* s1 */
	eor	w8, w8, w6, ror #19
	eor	w8, w8, w6, lsr #10
	ldur	w5, [x3, #-64]
	ldur	w6, [x3, #-28]
	add	w5, w5, w6
	add	w5, w5, w7
	add	w5, w5, w8
	str	w5, [x3], #4
	subs	w4, w4, #1
	b.ne	2b

	adr	x3, schedule
	adr	x4, sha256_k
	ldp	w8, w9, [x2]
	ldp	w10, w11, [x2, #8]
	ldp	w12, w13, [x2, #16]
	ldp	w14, w15, [x2, #24]
	eor	w16, w9, w10
	mov	w5, #8
3:	ROUND	w8,  w9,  w10, w11, w12, w13, w14, w15, w16, w17, 0
	ROUND	w15, w8,  w9,  w10, w11, w12, w13, w14, w17, w16, 1
	ROUND	w14, w15, w8,  w9,  w10, w11, w12, w13, w16, w17, 2
	ROUND	w13, w14, w15, w8,  w9,  w10, w11, w12, w17, w16, 3
	ROUND	w12, w13, w14, w15, w8,  w9,  w10, w11, w16, w17, 4
	ROUND	w11, w12, w13, w14, w15, w8,  w9,  w10, w17, w16, 5
	ROUND	w10, w11, w12, w13, w14, w15, w8,  w9,  w16, w17, 6
	ROUND	w9,  w10, w11, w12, w13, w14, w15, w8,  w17, w16, 7
	add	x3, x3, #32
	add	x4, x4, #32
	subs	w5, w5, #1
	b.ne	3b

	.irp	at, 0, 1, 2, 3
	ldp	w6, w7, [x2, #(8 * \at)]
	.if	\at == 0
	add	w6, w6, w8
	add	w7, w7, w9
	.elseif	\at == 1
	add	w6, w6, w10
	add	w7, w7, w11
	.elseif	\at == 2
	add	w6, w6, w12
	add	w7, w7, w13
	.else
	add	w6, w6, w14
	add	w7, w7, w15
	.endif
	stp	w6, w7, [x2, #(8 * \at)]
	.endr
	subs	x1, x1, #1
	b.ne	scalar_blocks
	ret

/* ------------------------------------------------------------------------
 * Data that never changes.
 */
	.balign	16, 0
sha256_h:
	.word	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a
	.word	0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19
sha256_k:
	.word	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5
	.word	0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5
	.word	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3
	.word	0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174
	.word	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc
	.word	0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da
	.word	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7
	.word	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967
	.word	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13
	.word	0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85
	.word	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3
	.word	0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070
	.word	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5
	.word	0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3
	.word	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208
	.word	0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2

/* The first one begins a line: the crashed kernel may have stopped within one. */
s_checking:	.asciz	"\r\npykexec: checking\r\n"
s_unchecked:	.asciz	"\r\npykexec: not checking\r\n"
s_again:	.asciz	"pykexec: checking again\r\n"
s_waiting:	.asciz	"pykexec: waiting "
s_for_devices:	.asciz	" s for devices "
s_starting:	.asciz	"pykexec: starting\r\n"
s_tables:	.asciz	"pykexec: tables do not match\r\n"
s_region:	.asciz	"pykexec: region "
s_at:		.asciz	" at 0x"
s_no_match:	.asciz	" does not match\r\n"
s_headers:	.asciz	"pykexec: headers do not match\r\n"
s_unbound:	.asciz	"pykexec: headers were never bound\r\n"
s_exception:	.asciz	"pykexec: exception "
s_stub_at:	.asciz	", stub at 0x"
s_esr:		.asciz	", esr 0x"
s_far:		.asciz	", far 0x"
s_refused:	.asciz	"pykexec: kernel not started, "
s_reset:	.asciz	"reset in "
s_seconds:	.ascii	" s"		/* and on with the end of the line */
s_newline:	.asciz	"\r\n"
s_failed:	.asciz	"pykexec: reset failed, "
s_halted:	.asciz	"halted\r\n"
	.balign	8, 0

/* ------------------------------------------------------------------------
 * What changes, on a page of its own.  No one promises zeros here.
 */
	.bss
	.balign	16
scratch:
digest:		.skip	8 * 4
pad:		.skip	2 * 64		/* the last one or two blocks */
schedule:	.skip	64 * 4
	.balign	16
		.skip	2048
stack_top:
