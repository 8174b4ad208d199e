/*
 * A test kernel for multiboot 1 or 2 (VERSION).  It prints on ttyS0 the state
 * in which it was entered and what it was passed, one item per line, and then
 * asks the lab over ttyS1 to end the run: `exit 7', as guest/host.sh would.
 *
 * Names are those of the specifications; numbers are printed in hex.
 */
	.equ	COM1,		0x3f8
	.equ	COM2,		0x2f8
	.equ	UART_LSR,	5
	.equ	LSR_THRE,	0x20

	.equ	AVAILABLE,	1		/* type of a range of the memory map */

	/* struct multiboot_info, and the entries of its two lists. */
	.equ	INFO_LOWER,	4
	.equ	INFO_CMDLINE,	16
	.equ	INFO_MODS_COUNT, 20
	.equ	INFO_MODS_ADDR,	24
	.equ	INFO_MMAP_LENGTH, 44
	.equ	INFO_MMAP_ADDR,	48
	.equ	INFO_LOADER,	64
	.equ	MODULE_BYTES,	16
	.equ	ROW_ADDR,	4		/* preceded by the row's own size */
	.equ	ROW_LENGTH,	12
	.equ	ROW_TYPE,	20

	/* Tags of version 2. */
	.equ	TAG_END,	0
	.equ	TAG_CMDLINE,	1
	.equ	TAG_LOADER,	2
	.equ	TAG_MODULE,	3
	.equ	TAG_MEMINFO,	4
	.equ	TAG_MMAP,	6

	.code32
	.text

	.balign	8
header:
	.if	VERSION == 1
	.equ	DEMANDS, 0x3			/* aligned modules, the memory map */
	.long	0x1badb002, DEMANDS, -(0x1badb002 + DEMANDS)
	.else
	.long	0xe85250d6, 0, header_end - header
	.long	-(0xe85250d6 + (header_end - header))
	.short	6, 0				/* aligned modules */
	.long	8
	.short	0, 0
	.long	8
header_end:
	.endif

	/* TEXT prints a string, HEX a number, ZSTRING the string at an address. */
	.macro	TEXT string
	call	say_inline
	.asciz	"\string"
	.endm
	.macro	HEX value
	movl	\value, %eax
	call	put_hex
	.endm
	.macro	ZSTRING address
	movl	\address, %esi
	call	say
	.endm

	.globl	start
start:
	mov	$stack_top, %esp
	mov	%eax, %edi
	pushf
	TEXT	"\r\nentered: eax="
	HEX	%edi
	TEXT	" cs="
	HEX	%cs
	TEXT	" ds="
	HEX	%ds
	TEXT	" ss="
	HEX	%ss
	TEXT	" cr0="
	mov	%cr0, %eax
	call	put_hex
	TEXT	" if="
	pop	%eax
	and	$0x200, %eax
	call	put_hex
	TEXT	"\r\n"

/* ------------------------------------------------------------------------
 * EBX is from the loader.  Each version leaves the memory map in ESI, its end
 * in EBP and the size of a row in EDI or before the row.
 */
	.if	VERSION == 1
	TEXT	"flags="
	HEX	(%ebx)
	TEXT	"\r\nmem_lower="
	HEX	INFO_LOWER(%ebx)
	TEXT	"\r\ncmdline="
	ZSTRING	INFO_CMDLINE(%ebx)
	TEXT	"\r\nloader="
	ZSTRING	INFO_LOADER(%ebx)
	TEXT	"\r\n"
	mov	INFO_MODS_ADDR(%ebx), %edi
	mov	INFO_MODS_COUNT(%ebx), %ecx
1:	sub	$1, %ecx
	jb	2f
	mov	8(%edi), %esi
	call	module
	add	$MODULE_BYTES, %edi
	jmp	1b
2:	mov	INFO_MMAP_ADDR(%ebx), %edi
	mov	INFO_MMAP_LENGTH(%ebx), %ebp
	add	%edi, %ebp
3:	cmp	%ebp, %edi
	jae	over
	lea	ROW_ADDR(%edi), %esi
	call	count_row
	add	(%edi), %edi
	add	$ROW_ADDR, %edi
	jmp	3b
	.else
	TEXT	"total_size="
	HEX	(%ebx)
	TEXT	"\r\n"
	add	$8, %ebx
1:	mov	(%ebx), %eax
	cmp	$TAG_END, %eax
	je	over
	cmp	$TAG_CMDLINE, %eax
	je	cmdline
	cmp	$TAG_LOADER, %eax
	je	loader
	cmp	$TAG_MODULE, %eax
	je	module_tag
	cmp	$TAG_MEMINFO, %eax
	je	meminfo
	cmp	$TAG_MMAP, %eax
	je	mmap
next:	mov	4(%ebx), %eax
	lea	7(%ebx, %eax), %ebx
	and	$~7, %ebx
	jmp	1b
cmdline:
	TEXT	"cmdline="
	jmp	string
loader:
	TEXT	"loader="
string:	lea	8(%ebx), %esi
	call	say
	TEXT	"\r\n"
	jmp	next
meminfo:
	TEXT	"mem_lower="
	HEX	8(%ebx)
	TEXT	"\r\n"
	jmp	next
module_tag:
	lea	8(%ebx), %edi
	lea	16(%ebx), %esi
	call	module
	jmp	next
mmap:	lea	16(%ebx), %esi
	mov	4(%ebx), %ebp
	add	%ebx, %ebp
2:	cmp	%ebp, %esi
	jae	next
	call	count_row
	add	8(%ebx), %esi
	jmp	2b
	.endif

over:	TEXT	"available="
	HEX	available + 4
	HEX	available
	TEXT	"\r\nthat is all\r\n"
	movl	$COM2, uart
	TEXT	"exit 7\n"
1:	hlt
	jmp	1b

/* count_row: the row whose address is at esi belongs to `available', or not. */
count_row:
	cmpl	$AVAILABLE, ROW_TYPE - ROW_ADDR(%esi)
	jne	1f
	mov	ROW_LENGTH - ROW_ADDR(%esi), %eax
	add	%eax, available
	mov	ROW_LENGTH - ROW_ADDR + 4(%esi), %eax
	adc	%eax, available + 4
1:	ret

/* module: start and end are at edi, its string is esi.  Its contents are text. */
module:
	TEXT	"module="
	call	say
	TEXT	" size="
	mov	4(%edi), %eax
	sub	(%edi), %eax
	call	put_hex
	TEXT	" offset="
	mov	(%edi), %eax
	and	$0xfff, %eax
	call	put_hex
	TEXT	" "
	mov	(%edi), %esi
	call	say
	TEXT	"\r\n"
	ret

/* ------------------------------------------------------------------------
 * Serial port, polled.  All of these preserve every register except eax, and
 * say leaves esi after its string.
 */
say_inline:				/* the string follows the call */
	xchg	%esi, (%esp)
	call	say
	xchg	%esi, (%esp)
	ret

say:	lodsb
	test	%al, %al
	jz	1f
	call	put
	jmp	say
1:	ret

put_hex:				/* eax */
	push	%ecx
	mov	$8, %ecx
1:	rol	$4, %eax
	push	%eax
	and	$0xf, %al
	add	$'0', %al
	cmp	$'9', %al
	jbe	2f
	add	$('a' - '0' - 10), %al
2:	call	put
	pop	%eax
	loop	1b
	pop	%ecx
	ret

put:					/* al */
	push	%edx
	push	%eax
	mov	uart, %edx
	add	$UART_LSR, %edx
1:	in	%dx, %al
	test	$LSR_THRE, %al
	jz	1b
	pop	%eax
	sub	$UART_LSR, %edx
	out	%al, %dx
	pop	%edx
	ret

	.data
uart:	.long	COM1
	.bss
available: .skip 8
	.skip	1024
stack_top:
