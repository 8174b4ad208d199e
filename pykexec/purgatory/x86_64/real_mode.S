/*
 * From 32-bit protected mode to a kernel's real-mode entry.
 *
 * The stub (stub.S, FLAG_ENTRY_32) starts this like a kernel: flat segments, no
 * paging, interrupts off.  It lies below 640 KiB at a multiple of 16, and gets
 *
 *   EDI  its own address
 *   EBX  the segment of the kernel's setup code
 *   EAX  the top of the stack in that segment
 *
 * The setup code will ask the BIOS.  The kernel that ran has left the BIOS's
 * memory alone (the first page, the EBDA, the ROMs), but has taken over the
 * interrupt controllers and the timer: they get back what a PC's BIOS gives
 * them.  A20 stays on, and the setup code sees to it anyway.
 *
 * Only scripts/build-stub builds this, into a flat file.
 */

	.equ	CODE16,		0x08
	.equ	DATA16,		0x10
	.equ	CR0_PE,		1

	.equ	IO_DELAY,	0x80		/* a port that takes its time, and no more */

	.text
	.code32
	.globl	real_mode
real_mode:
	mov	%eax, %ebp

	lea	devices(%edi), %esi
	mov	$(devices_end - devices) / 2, %ecx
1:	lodsw
	movzbl	%al, %edx
	mov	%ah, %al
	out	%al, %dx
	out	%al, $IO_DELAY
	loop	1b

	/* What depends on where this lies: once, and long before it is used. */
	mov	%edi, %eax
	mov	%ax, code16 + 2(%edi)
	shr	$16, %eax
	mov	%al, code16 + 4(%edi)
	lea	gdt(%edi), %eax
	mov	%eax, gdt_operand + 2(%edi)
	mov	%edi, %eax
	shr	$4, %eax
	mov	%ax, segment(%edi)

	lgdt	gdt_operand(%edi)
	lidt	ivt_operand(%edi)
	ljmp	$CODE16, $protected_16

	/*
	 * Segments of 64 KiB, 16 bits wide: what a descriptor says outlives the
	 * change to real mode, which sets bases and nothing else.
	 */
	.code16
protected_16:
	mov	$DATA16, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %fs
	mov	%ax, %gs
	mov	%ax, %ss
	mov	%cr0, %eax
	and	$~CR0_PE, %eax
	mov	%eax, %cr0
	.byte	0xea			/* far jump: CS gets a real segment */
	.word	real_16
segment:
	.word	0

real_16:
	mov	%bx, %ds
	mov	%bx, %es
	mov	%bx, %fs
	mov	%bx, %gs
	mov	%bx, %ss
	movzwl	%bp, %esp
	add	$0x20, %bx		/* boot.rst: 0x200 bytes into the setup code */
	push	%bx
	push	$0
	xor	%eax, %eax
	xor	%ebx, %ebx
	xor	%edx, %edx
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%ebp, %ebp
	lret

/* Port and value of each write. */
devices:
	.byte	0x20, 0x11, 0xa0, 0x11	/* both 8259s: be set up, with four words */
	.byte	0x21, 0x08, 0xa1, 0x70	/* vectors of the BIOS's handlers */
	.byte	0x21, 0x04, 0xa1, 0x02	/* the second one is at line 2 */
	.byte	0x21, 0x01, 0xa1, 0x01	/* for an x86, each interrupt acknowledged */
	.byte	0x21, 0xf8, 0xa1, 0xff	/* timer and keyboard, which a BIOS waits for */
	.byte	0x43, 0x34		/* 8254, channel 0: both bytes, mode 2 */
	.byte	0x40, 0x00, 0x40, 0x00	/* 65536, the slowest: 18.2 a second */
devices_end:

	.balign	8, 0xcc
gdt:
	.quad	0
code16:	.quad	0x00009b000000ffff	/* at this code, 64 KiB */
	.quad	0x000093000000ffff	/* at 0, 64 KiB */
gdt_operand:
	.word	gdt_operand - gdt - 1
	.long	0
ivt_operand:
	.word	0x3ff			/* 256 vectors of 4 bytes, at 0 */
	.long	0
