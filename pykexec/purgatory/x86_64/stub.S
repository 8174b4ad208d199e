/*
 * The machine code between two kernels.
 *
 * One blob, two uses.  As the *purgatory* of a normal kexec image the kernel
 * has moved every page already: the stub checks them where they will run.  As
 * *crash stub* it is all that a tiny crashkernel= reservation holds: it checks
 * the capture kernel where that was left waiting, exchanges the pages with
 * those of the crashed kernel (so that nothing of it is lost), and starts it.
 *
 * What it may rely on at offset 0 (arch/x86/kernel/relocate_kernel_64.S):
 * 64-bit mode, interrupts off, an identity map of all RAM, writable and
 * executable.  A 32-bit kernel enters in protected mode without paging
 * (relocate_kernel_32.S); the loader has left page tables then.
 *
 * What it may not rely on: the GDT and the IDT (limit 0 up to 6.12), the stack
 * (from 6.14 the word at RSP belongs to someone else), SSE (CR4.OSFXSR is
 * clear), the contents of its own .bss, and any device.
 *
 * Rules kept throughout:
 *   - Nothing is used before it is checked, and on a mismatch the kernel is
 *     never started: a broken capture kernel may still own the disks.
 *   - Every wait ends.  A dead UART or timer must not cost the dump.
 *   - The code never writes to its own page.  All that changes is in .bss, on
 *     a page of its own: a store near running code makes a processor throw
 *     away its pipeline, and an emulator its translation.
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
	.equ	FLAG_ENTRY_32,	2		/* leave long mode before the entry */
	.equ	FLAG_IN_USE,	4		/* devices may write where the image goes */

/* Selectors as Documentation/arch/x86/boot.rst demands them at the entry. */
	.equ	BOOT_CS,	0x10
	.equ	BOOT_DS,	0x18

/* The UART: line status at base + 5. */
	.equ	UART_LSR,	5
	.equ	LSR_THRE,	0x20		/* takes another character */
	.equ	LSR_TEMT,	0x40		/* the last one is on the wire */
/*
 * A port read takes about a microsecond, so this is at least a tenth of a
 * second: what 16 characters, a full FIFO, need at 1200 baud.
 */
	.equ	UART_POLLS,	0x20000

/* The 8254 timer, channel 2: the one that can be polled without interrupts. */
	.equ	PIT_CHANNEL_2,	0x42
	.equ	PIT_MODE,	0x43
	.equ	PIT_GATE,	0x61
	.equ	GATE_ON,	0x01
	.equ	GATE_KEEP,	0x0c		/* NMI sources; 2 is the speaker, the rest must be 0 */
	.equ	GATE_OUT_2,	0x20
	.equ	TICKS_A_SECOND,	20
	.equ	PIT_COUNT,	1193182 / TICKS_A_SECOND	/* fits 16 bits */
/*
 * A tick is 50 ms.  A timer that has not ended it after this many reads does
 * not count.  A read takes a microsecond on hardware and more in a guest, but
 * QEMU without KVM has been seen to do ten in one: 200000 were too few.
 */
	.equ	PIT_POLLS,	2000000
/* From then on a tick is this many reads of about a microsecond. */
	.equ	PORT_READS_A_TICK, 50000
/*
 * A second by the TSC is over after this many port reads at the latest: they
 * take a tenth of a microsecond at least (see PIT_POLLS), so 32 million are
 * more than 3 s, and a TSC that counts slower than that is given up.
 */
	.equ	TSC_POLLS,	0x2000000

/*
 * PCI configuration mechanism 1: an address with bus, device and function in
 * bits 8 to 23, and the doubleword there.
 */
	.equ	PCI_ADDRESS,	0xcf8
	.equ	PCI_DATA,	0xcfc
	.equ	PCI_FIRST,	0x80000000
	.equ	PCI_END,	0x81000000
	.equ	PCI_FUNCTION,	0x100		/* from one function to the next */
	.equ	PCI_DEVICE,	0x800		/* from one device to the next */
	.equ	PCI_COMMAND,	0x04
	.equ	BUS_MASTER,	0x04
	.equ	PCI_HEADER,	0x0c		/* the header type is the third byte */
	.equ	HEADER_TYPE,	0x7f0000	/* 0: an endpoint */
	.equ	MULTIFUNCTION,	0x800000

/* Between 32-bit and 64-bit mode. */
	.equ	MSR_EFER,	0xc0000080
	.equ	EFER_LME,	0x100
	.equ	CR0_PE_ET,	0x11
	.equ	CR0_PG,		0x80000000
	.equ	CR4_PAE,	0x20

	.equ	CF9_RESET,	0xcf9
	.equ	KEYBOARD,	0x64

/*
 * Gaps are filled by name.  Left alone, as fills them with nops of its own
 * choice, which is another choice in another version.
 */
	.equ	FILL,		0xcc		/* int3 */

	.code64
	.text

/* ------------------------------------------------------------------------
 * The head: fixed offsets, known to pykexec/purgatory/x86_64/stub.py.
 */
	.globl	stub
stub:
	jmp	start

	.balign	8, FILL
	.long	stub_size		/* bytes of this file: bufsz */
	.long	stub_memsz		/* with .bss and stack: memsz */

	.balign	16, FILL
params:					/* offset 16; struct stub_params */
p_magic:	.ascii	"PYKEXEC1"
p_boot_params:	.quad	0
p_entry:	.quad	0
p_tables:	.quad	0
p_n_regions:	.long	0
p_n_exchanges:	.long	0
p_tables_sha256: .skip	32
p_seal:		.quad	0
p_serial_port:	.word	0
p_flags:	.word	0
p_reset_seconds: .long	0
p_rax:		.quad	0
p_rbx:		.quad	0
p_rdi:		.quad	0
p_page_tables:	.quad	0
p_settle_seconds: .long	0
p_tsc_khz:	.long	0
params_end:

/* ------------------------------------------------------------------------
 * The bytes of the next three instructions end in 1 in EAX in 32-bit mode; in
 * 64-bit mode 0x40 is a prefix, and EAX stays 0.
 */
start:
	cli
	cld
	xor	%eax, %eax
	.byte	0x40, 0x90
	test	%eax, %eax
	jz	start_64

/*
 * A 32-bit kernel's stack is on its control page, with room for one word; its
 * segments are flat.
 */
	.code32
	call	1f
1:	pop	%ebx
	mov	p_page_tables - 1b(%ebx), %eax
	mov	%eax, %cr3
	mov	$CR4_PAE, %eax
	mov	%eax, %cr4
	mov	$MSR_EFER, %ecx
	mov	$EFER_LME, %eax
	xor	%edx, %edx
	wrmsr
	lea	stack_top - 1b(%ebx), %esp
	lea	gdt - 1b(%ebx), %eax
	push	%eax
	pushw	$(gdt_end - gdt - 1)
	lgdt	(%esp)
	mov	$(CR0_PG | CR0_PE_ET), %eax
	mov	%eax, %cr0		/* compatibility mode */
	lea	start_64 - 1b(%ebx), %eax
	push	$BOOT_CS
	push	%eax
	lret
	.code64

/* ------------------------------------------------------------------------
 * A machine state of our own: from here on a fault is a line on the serial
 * port and no longer a silent triple fault.
 */
start_64:
	lea	stack_top(%rip), %rsp

	sub	$16, %rsp		/* the operand of lgdt and lidt */
	lea	gdt(%rip), %rax
	movw	$(gdt_end - gdt - 1), 6(%rsp)
	mov	%rax, 8(%rsp)
	lgdt	6(%rsp)

	mov	$BOOT_DS, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%eax, %fs
	mov	%eax, %gs
	push	$BOOT_CS
	lea	1f(%rip), %rax
	push	%rax
	lretq				/* the only way to load CS here */
1:
	/*
	 * The gates are written here, for their addresses are not known
	 * before: the stub runs where the loader found room.
	 */
	lea	idt(%rip), %rdi
	movw	$(idt_end - idt - 1), 6(%rsp)
	mov	%rdi, 8(%rsp)
	lea	vectors(%rip), %rax
	mov	$32, %ecx
1:	mov	%rax, %rdx
	mov	%dx, (%rdi)		/* offset 15:0 */
	movw	$BOOT_CS, 2(%rdi)
	movw	$0x8e00, 4(%rdi)	/* present, interrupt gate, no IST */
	shr	$16, %rdx
	mov	%dx, 6(%rdi)		/* offset 31:16 */
	shr	$16, %rdx
	mov	%rdx, 8(%rdi)		/* offset 63:32, then 0 */
	add	$16, %rdi
	add	$VECTOR_BYTES, %rax
	dec	%ecx
	jnz	1b
	lidt	6(%rsp)
	add	$16, %rsp

	movzwl	p_serial_port(%rip), %eax
	mov	%eax, uart(%rip)
	mov	p_tsc_khz(%rip), %eax
	mov	%eax, tsc_khz(%rip)
	xor	%eax, %eax
	mov	%eax, faults(%rip)
	mov	%eax, pit_dead(%rip)

/* ------------------------------------------------------------------------
 * Check everything that will be used, in the order of the trust: the tables
 * by the digest in the head, the regions by the tables.
 */
	testw	$FLAG_NO_CHECKS, p_flags(%rip)
	jnz	unchecked
	lea	s_checking(%rip), %rsi
	call	say

	mov	p_n_regions(%rip), %eax
	mov	p_n_exchanges(%rip), %ecx
	lea	(%rcx,%rax,2), %rdx	/* a region is two exchanges long */
	imul	$EXCHANGE_BYTES, %rdx
	test	%rdx, %rdx
	jz	check_seal		/* no records: no tables to look at */
	mov	p_tables(%rip), %rsi
	call	sha256
	lea	p_tables_sha256(%rip), %rdi
	call	compare
	lea	s_tables(%rip), %rsi
	jne	mismatch

	xor	%ebx, %ebx		/* nothing has been moved */
	call	check_regions

	/*
	 * The ELF core headers come last into being, after the load, so the
	 * digest in the head cannot know them: a record of their own vouches.
	 * Its size is 0 until they are there.
	 */
check_seal:
	mov	p_seal(%rip), %rdi
	test	%rdi, %rdi
	jz	settle
	cmpq	$0, REGION_SIZE(%rdi)
	lea	s_unbound(%rip), %rsi
	je	mismatch
	call	check_record
	lea	s_headers(%rip), %rsi
	jne	mismatch
	jmp	settle

unchecked:
	lea	s_unchecked(%rip), %rsi
	call	say

/* ------------------------------------------------------------------------
 * Wait, before anything is moved: devices may still write into the memory
 * that the exchange is about to use.  A dot for each second.  What they had
 * begun ends in this time; they can begin nothing new.
 */
settle:
	testb	$FLAG_IN_USE, p_flags(%rip)
	jz	1f
	call	stop_bus_masters
1:	mov	p_settle_seconds(%rip), %ebx
	test	%ebx, %ebx
	jz	exchange
	lea	s_waiting(%rip), %rsi
	call	say_name
	mov	%rbx, %rax
	call	put_decimal
	lea	s_for_devices(%rip), %rsi
	call	say
1:	call	second
	mov	$'.', %al
	call	put
	dec	%ebx
	jnz	1b
	lea	s_newline(%rip), %rsi
	call	say

/* ------------------------------------------------------------------------
 * Exchange.  Plain registers: there is no SSE here, and the memory is the
 * slow part.  Four words a turn, then what is left, word by word.
 */
exchange:
	mov	p_n_regions(%rip), %eax
	imul	$REGION_BYTES, %rax, %rbp
	add	p_tables(%rip), %rbp
	mov	p_n_exchanges(%rip), %ebx
1:	sub	$1, %ebx
	jb	exchanged
	mov	EXCHANGE_DEST(%rbp), %rdi
	mov	EXCHANGE_SOURCE(%rbp), %rsi
	mov	EXCHANGE_SIZE(%rbp), %rcx
	add	$EXCHANGE_BYTES, %rbp
	sub	$32, %rcx
	jb	3f
2:	mov	(%rdi), %r8
	mov	8(%rdi), %r9
	mov	16(%rdi), %r10
	mov	24(%rdi), %r11
	mov	(%rsi), %r12
	mov	8(%rsi), %r13
	mov	16(%rsi), %r14
	mov	24(%rsi), %r15
	mov	%r12, (%rdi)
	mov	%r13, 8(%rdi)
	mov	%r14, 16(%rdi)
	mov	%r15, 24(%rdi)
	mov	%r8, (%rsi)
	mov	%r9, 8(%rsi)
	mov	%r10, 16(%rsi)
	mov	%r11, 24(%rsi)
	add	$32, %rdi
	add	$32, %rsi
	sub	$32, %rcx
	jae	2b
3:	add	$32, %rcx
4:	sub	$8, %rcx
	jb	1b
	mov	(%rdi), %r8
	mov	(%rsi), %r12
	mov	%r12, (%rdi)
	mov	%r8, (%rsi)
	add	$8, %rdi
	add	$8, %rsi
	jmp	4b

/* ------------------------------------------------------------------------
 * Start the kernel, in the state that the 64-bit boot protocol wants: RSI is
 * the zero page, RAX, RBX and RDI are 0.  What is not Linux has its own idea
 * of these four.
 */
exchanged:
	mov	%cr3, %rax		/* the code ahead may be new: serialise */
	mov	%rax, %cr3

	/*
	 * Where the image is now, a device may have written that was not
	 * stopped and took longer than the wait.
	 */
	mov	p_flags(%rip), %al
	and	$(FLAG_IN_USE | FLAG_NO_CHECKS), %al
	cmp	$FLAG_IN_USE, %al
	jne	starting
	lea	s_again(%rip), %rsi
	call	say_name
	mov	p_n_exchanges(%rip), %ebx
	call	check_regions

starting:
	lea	s_starting(%rip), %rsi
	call	say_name
	mov	$LSR_TEMT, %ah		/* the kernel will clear the FIFO */
	call	uart_wait

	mov	p_rbx(%rip), %rbx
	mov	p_rdi(%rip), %rdi
	mov	p_boot_params(%rip), %rsi
	xor	%ebp, %ebp
	testw	$FLAG_ENTRY_32, p_flags(%rip)
	jnz	leave_long_mode

	/* RSP stays: with the IDT it lets an NMI pass until the kernel has its own. */
	mov	p_rax(%rip), %rax
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d
	jmp	*p_entry(%rip)

/*
 * A 32-bit entry: protected mode, flat segments (those of boot.rst, which suit
 * multiboot too), no paging.  The stub lies below 4 GiB then, the loader sees
 * to it.  EDI is also the argument on the stack, for an ELF entry that is a C
 * function; the return address is 0.
 */
leave_long_mode:
	push	%rdi			/* seen from 32 bits: EDI, and 0 above it */
	pushq	$0			/* two words of 0: the lower one goes with EIP */
	push	p_entry(%rip)
	push	p_rax(%rip)

	sub	$16, %rsp
	movw	$0, 6(%rsp)		/* no gate of ours makes sense down there */
	lidt	6(%rsp)
	lea	gdt32(%rip), %rax
	movw	$(gdt32_end - gdt32 - 1), 6(%rsp)
	mov	%rax, 8(%rsp)
	lgdt	6(%rsp)
	add	$16, %rsp
	push	$BOOT_CS
	lea	1f(%rip), %rax
	push	%rax
	lretq				/* compatibility mode */

	.code32
1:	mov	$BOOT_DS, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%eax, %fs
	mov	%eax, %gs
	mov	$CR0_PE_ET, %eax
	mov	%eax, %cr0		/* paging off, and with it long mode */
	mov	$MSR_EFER, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
	mov	%eax, %cr4
	pop	%eax
	pop	%ecx			/* 0: addresses and values are below 4 GiB */
	ret	$8			/* to the entry; the stack is then 0, EDI */
	.code64

/* ------------------------------------------------------------------------
 * Refusals.  All of them end in the reset or the halt, never in the kernel.
 */
region_mismatch:			/* r12d: index, rsi: address */
	mov	%rsi, %rbx
	lea	s_region(%rip), %rsi
	call	say_name
	mov	%r12, %rax
	call	put_decimal
	lea	s_at(%rip), %rsi
	call	say
	mov	%rbx, %rax
	call	put_hex
	lea	s_no_match(%rip), %rsi
	call	say
	jmp	refuse

mismatch:				/* rsi: what to say */
	call	say_name

refuse:
	lea	s_refused(%rip), %rsi
	call	say_name
	mov	p_reset_seconds(%rip), %ebx
	test	%ebx, %ebx
	jz	halt_aloud
	lea	s_reset(%rip), %rsi
	call	say
	mov	%rbx, %rax
	call	put_decimal
	lea	s_seconds(%rip), %rsi
	call	say
	imul	$TICKS_A_SECOND, %rbx
1:	call	tick
	dec	%rbx
	jnz	1b

	/*
	 * Three ways to reset, each with time to work before the next: the
	 * chipset's register, the keyboard controller's line, a triple fault.
	 */
	mov	$CF9_RESET, %edx
	mov	$0x02, %al		/* hard reset chosen ... */
	out	%al, %dx
	mov	$0x06, %al		/* ... and asked for */
	out	%al, %dx
	call	tick

	mov	$0x10000, %ecx
1:	in	$KEYBOARD, %al
	test	$0x02, %al		/* input buffer full: not yet */
	jz	2f
	dec	%ecx
	jnz	1b
2:	mov	$0xfe, %al
	out	%al, $KEYBOARD
	call	tick

triple_fault:
	push	$0
	push	$0
	lidt	(%rsp)			/* limit 0: no gate at all */
	int3

halt_aloud:
	lea	s_halted(%rip), %rsi
	call	say
halt:
	cli
	hlt
	jmp	halt			/* an NMI ends a hlt */

/* A vector's few bytes push its number; all but the NMI end at `exception'. */
	.equ	VECTOR_BYTES,	8
	.balign	8, FILL
vectors:
	.set	vector, 0
	.rept	32
	.if	vector == 2
	/*
	 * An NMI says nothing about our work: a watchdog, or someone's button
	 * on the very machine that has just crashed.  Carry on; to stop half
	 * way through an exchange would lose the dump.
	 */
	iretq
	.else
	push	$vector
	jmp	exception
	.endif
	.balign	VECTOR_BYTES, FILL
	.set	vector, vector + 1
	.endr

/*
 * Any exception is the end: the tables point to memory that is not there, or
 * the hardware fails.  Stack: vector, perhaps an error code, then RIP.
 */
exception:
	incl	faults(%rip)
	cmpl	$1, faults(%rip)
	jne	fault_in_fault
	pop	%r12			/* vector */
	mov	$0x60227d00, %eax	/* 8, 10-14, 17, 21, 29, 30 push a code */
	bt	%r12d, %eax
	jnc	1f
	pop	%rax
1:	mov	(%rsp), %rbx
	lea	stack_top(%rip), %rsp
	lea	s_exception(%rip), %rsi
	call	say_name
	mov	%r12, %rax
	call	put_decimal
	lea	s_at(%rip), %rsi
	call	say
	mov	%rbx, %rax
	call	put_hex
	lea	s_stub_at(%rip), %rsi
	call	say
	lea	stub(%rip), %rax
	call	put_hex
	lea	s_cr2(%rip), %rsi
	call	say
	mov	%cr2, %rax
	call	put_hex
	lea	s_newline(%rip), %rsi
	call	say
	jmp	refuse

fault_in_fault:				/* no more words, just the end */
	cmpl	$0, p_reset_seconds(%rip)
	je	halt
	jmp	triple_fault

/* ------------------------------------------------------------------------
 * Time.  second: wait a second, by the TSC where its frequency is known.  A
 * TSC that stands still, goes back or crawls is given up for good, and the
 * second is counted again by ticks.  Changes rax, rcx, rdx, rsi, rdi.
 */
second:
	mov	tsc_khz(%rip), %esi
	imul	$1000, %rsi, %rsi	/* cycles to go */
	test	%rsi, %rsi
	jz	3f
	call	read_tsc
	mov	%rax, %rdi
	mov	$TSC_POLLS, %ecx
1:	in	$PIT_GATE, %al		/* takes long enough for the TSC to move */
	call	read_tsc
	cmp	%rdi, %rax
	jbe	2f
	xchg	%rdi, %rax		/* rdi: now, rax: before */
	sub	%rdi, %rax		/* minus what has passed */
	add	%rax, %rsi
	jle	5f
	dec	%ecx
	jnz	1b
2:	movl	$0, tsc_khz(%rip)
3:	mov	$TICKS_A_SECOND, %esi
4:	call	tick
	dec	%esi
	jnz	4b
5:	ret

/* read_tsc: into rax.  Changes rdx. */
read_tsc:
	rdtsc
	shl	$32, %rdx
	or	%rdx, %rax
	ret

/* tick: wait a twentieth of a second.  Changes rax, rcx. */
tick:
	cmpl	$0, pit_dead(%rip)
	jne	3f
	in	$PIT_GATE, %al
	and	$GATE_KEEP, %al
	or	$GATE_ON, %al
	out	%al, $PIT_GATE
	mov	$0xb0, %al		/* channel 2, both bytes, mode 0 */
	out	%al, $PIT_MODE
	mov	$(PIT_COUNT & 0xff), %al
	out	%al, $PIT_CHANNEL_2
	mov	$(PIT_COUNT >> 8), %al
	out	%al, $PIT_CHANNEL_2
	in	$PIT_GATE, %al
	test	$GATE_OUT_2, %al	/* over at once?  Nobody is there */
	jnz	2f
	mov	$PIT_POLLS, %ecx
1:	in	$PIT_GATE, %al
	test	$GATE_OUT_2, %al
	jnz	5f
	dec	%ecx
	jnz	1b
	incl	pit_dead(%rip)		/* this tick was long enough */
	ret
2:	incl	pit_dead(%rip)
3:	mov	$PORT_READS_A_TICK, %ecx
4:	in	$PIT_GATE, %al
	dec	%ecx
	jnz	4b
5:	ret

/*
 * stop_bus_masters: no endpoint may begin an access to memory, as the kernel
 * does before a kexec (drivers/pci/pci-driver.c:pci_device_shutdown).  Devices
 * of segment 0, and not bridges: those would take the serial port with them.
 * A device that ignores it is left to the wait.  Changes rax, rcx, rdx, rsi.
 */
stop_bus_masters:
	mov	$PCI_FIRST, %esi
1:	lea	PCI_HEADER(%rsi), %eax
	call	read_pci
	mov	%eax, %ecx
	inc	%eax
	jnz	2f
	xor	%ecx, %ecx		/* nobody there, so no further function */
	jmp	3f
2:	test	$HEADER_TYPE, %ecx
	jnz	3f
	lea	PCI_COMMAND(%rsi), %eax
	call	read_pci
	and	$~BUS_MASTER, %al
	out	%ax, %dx		/* not the status: it clears what it gets */
3:	test	$MULTIFUNCTION, %ecx
	jnz	4f
	test	$(PCI_DEVICE - PCI_FUNCTION), %esi
	jnz	4f			/* only the first function knows */
	add	$(PCI_DEVICE - PCI_FUNCTION), %esi
4:	add	$PCI_FUNCTION, %esi
	cmp	$PCI_END, %esi
	jb	1b
	ret

/* read_pci: the doubleword at eax, into eax.  Leaves its port in edx. */
read_pci:
	mov	$PCI_ADDRESS, %edx
	out	%eax, %dx
	mov	$(PCI_DATA & 0xff), %dl
	in	%dx, %eax
	ret

/* ------------------------------------------------------------------------
 * Serial port.  Polled, and given up for good at the first sign of death.
 *
 * say_name: our name, then the string at rsi.  say: the string at rsi.  Both
 * change rax, rcx, rdx, rsi, r8.
 */
say_name:
	push	%rsi
	lea	s_name(%rip), %rsi
	call	say
	pop	%rsi
say:
	lodsb
	test	%al, %al
	jz	1f
	call	put
	jmp	say
1:	ret

/* put: the character al.  Changes rax, rcx, rdx, r8. */
put:
	mov	%eax, %r8d
	mov	$LSR_THRE, %ah
	call	uart_wait
	jz	1f
	mov	%r8d, %eax
	out	%al, %dx
1:	ret

/*
 * uart_wait: until a line status bit of ah is set.  Returns the port in edx,
 * and ZF if there is none (any more).  Changes rax, rcx.
 */
uart_wait:
	mov	uart(%rip), %edx
	test	%edx, %edx
	jz	3f
	add	$UART_LSR, %edx
	mov	$UART_POLLS, %ecx
1:	in	%dx, %al
	cmp	$0xff, %al		/* what a port without a device reads */
	je	2f
	test	%ah, %al
	jnz	4f
	dec	%ecx
	jnz	1b
2:	xor	%edx, %edx		/* sets ZF */
	mov	%edx, uart(%rip)
3:	ret
4:	sub	$UART_LSR, %edx		/* clears ZF */
	ret

/* put_decimal, put_hex: the number rax.  Change rcx, rdx, rdi, r8 too. */
put_decimal:
	mov	$10, %edi
	jmp	put_number
put_hex:
	mov	$16, %edi
put_number:
	xor	%edx, %edx
	div	%rdi
	push	%rdx			/* the last digit is known first */
	test	%rax, %rax
	jz	1f
	call	put_number
1:	pop	%rax
	add	$'0', %al
	cmp	$'9', %al
	jbe	2f
	add	$('a' - '0' - 10), %al
2:	jmp	put

/* ------------------------------------------------------------------------
 * SHA-256 (FIPS 180-4).  Scalar, eight rounds unrolled so that the working
 * variables change their names instead of their registers.
 *
 * check_record: does what the record at rdi (region or seal) speaks of match
 * its digest?  check_at: the same, at rsi.  compare: is the digest just made
 * the one at rdi?  ZF says yes.  All change every register but rsp.
 */
check_record:
	mov	REGION_ADDR(%rdi), %rsi
check_at:
	push	%rdi
	mov	REGION_SIZE(%rdi), %rdx
	call	sha256
	pop	%rdi
	add	$REGION_SHA256, %rdi
compare:
	lea	digest(%rip), %rsi
	mov	$4, %ecx
	repe cmpsq
	ret

/*
 * check_regions: check every region, or refuse.  ebx is the number of
 * exchanges that were done: a region in the source of one is at its
 * destination since.
 */
check_regions:
	mov	p_tables(%rip), %rdi
	xor	%r12d, %r12d
1:	cmp	p_n_regions(%rip), %r12d
	jae	5f
	mov	REGION_ADDR(%rdi), %rsi
	imul	$REGION_BYTES, p_n_regions(%rip), %ecx
	add	p_tables(%rip), %rcx
	mov	%ebx, %edx
2:	sub	$1, %edx
	jb	4f
	mov	%rsi, %rax
	sub	EXCHANGE_SOURCE(%rcx), %rax
	cmp	EXCHANGE_SIZE(%rcx), %rax
	jb	3f
	add	$EXCHANGE_BYTES, %rcx
	jmp	2b
3:	add	EXCHANGE_DEST(%rcx), %rax
	mov	%rax, %rsi
4:	push	%rbx
	push	%r12
	push	%rdi
	push	%rsi
	call	check_at
	pop	%rsi			/* pop leaves the flags alone */
	pop	%rdi
	pop	%r12
	pop	%rbx
	jne	region_mismatch
	add	$REGION_BYTES, %rdi
	inc	%r12d
	jmp	1b
5:	ret

/* sha256: of rdx bytes at rsi, into digest.  Changes every register but rsp. */
sha256:
	push	%rdx
	push	%rsi
	lea	sha256_h(%rip), %rsi
	lea	digest(%rip), %rdi
	mov	$4, %ecx
	rep movsq
	pop	%rsi
1:	sub	$64, %rdx
	jb	2f
	push	%rdx
	call	sha256_block
	pop	%rdx
	jmp	1b

	/* The rest, 0x80, zeros, the length in bits: one block more, or two. */
2:	add	$64, %edx
	lea	pad(%rip), %rdi
	mov	%edx, %ecx
	rep movsb
	mov	$0x80, %al
	stosb
	lea	pad + 64 - 8(%rip), %rcx
	cmp	$(64 - 8), %edx
	jb	3f
	add	$64, %rcx
3:	sub	%rdi, %rcx
	xor	%eax, %eax
	rep stosb
	pop	%rax
	shl	$3, %rax
	bswap	%rax
	stosq
	lea	pad(%rip), %rsi
4:	push	%rdi
	call	sha256_block
	pop	%rdi
	cmp	%rdi, %rsi
	jb	4b

	lea	digest(%rip), %rdi	/* words to bytes */
	mov	$8, %ecx
5:	mov	(%rdi), %eax
	bswap	%eax
	stosl
	dec	%ecx
	jnz	5b
	ret

/*
 * One round.  \bc holds b ^ c and becomes scratch; \ab is left holding a ^ b,
 * which is the next round's b ^ c: majority is ((a ^ b) & (b ^ c)) ^ b.
 */
	.macro	ROUND a, b, c, d, e, f, g, h, bc, ab, i
	mov	\e, %eax		/* S1 = e >>> 6 ^ e >>> 11 ^ e >>> 25 */
	ror	$14, %eax
	mov	\f, %edx		/* Ch = ((f ^ g) & e) ^ g */
	xor	\e, %eax
	xor	\g, %edx
	ror	$5, %eax
	and	\e, %edx
	xor	\e, %eax
	xor	\g, %edx
	ror	$6, %eax
	add	4 * \i(%rdi), \h	/* w */
	add	4 * \i(%rbp), \h	/* k */
	add	%edx, \h
	add	%eax, \h
	add	\h, \d
	mov	\a, %eax		/* S0 = a >>> 2 ^ a >>> 13 ^ a >>> 22 */
	mov	\a, \ab
	ror	$9, %eax
	xor	\b, \ab
	xor	\a, %eax
	and	\ab, \bc
	ror	$11, %eax
	xor	\b, \bc
	xor	\a, %eax
	add	\bc, \h
	ror	$2, %eax
	add	%eax, \h
	.endm

/* sha256_block: the 64 bytes at rsi; moves rsi past them. */
sha256_block:
	lea	w(%rip), %rdi
	mov	$16, %ecx
1:	mov	(%rsi), %eax
	add	$4, %rsi
	bswap	%eax
	mov	%eax, (%rdi)
	add	$4, %rdi
	dec	%ecx
	jnz	1b

	mov	$24, %ecx		/* 48 words of schedule, two a turn */
2:	.irp	at, 0, 4
	mov	\at - 8(%rdi), %eax	/* s1 = x >>> 17 ^ x >>> 19 ^ x >> 10 */
	mov	\at - 60(%rdi), %edx	/* s0 = x >>> 7 ^ x >>> 18 ^ x >> 3 */
	mov	%eax, %ebx
	mov	%edx, %ebp
	ror	$2, %ebx
	ror	$11, %ebp
	xor	%eax, %ebx
	xor	%edx, %ebp
	ror	$17, %ebx
	ror	$7, %ebp
	shr	$10, %eax
	shr	$3, %edx
	xor	%ebx, %eax
	xor	%ebp, %edx
	add	\at - 64(%rdi), %eax
	add	\at - 28(%rdi), %edx
	add	%edx, %eax
	mov	%eax, \at(%rdi)
	.endr
	add	$8, %rdi
	dec	%ecx
	jnz	2b

	lea	digest(%rip), %rbp
	mov	(%rbp), %r8d
	mov	4(%rbp), %r9d
	mov	8(%rbp), %r10d
	mov	12(%rbp), %r11d
	mov	16(%rbp), %r12d
	mov	20(%rbp), %r13d
	mov	24(%rbp), %r14d
	mov	28(%rbp), %r15d
	mov	%r9d, %ebx
	xor	%r10d, %ebx
	lea	w(%rip), %rdi
	lea	sha256_k(%rip), %rbp
	.balign	16, 0x90		/* run once a block: nops */
3:	ROUND	%r8d,  %r9d,  %r10d, %r11d, %r12d, %r13d, %r14d, %r15d, %ebx, %ecx, 0
	ROUND	%r15d, %r8d,  %r9d,  %r10d, %r11d, %r12d, %r13d, %r14d, %ecx, %ebx, 1
	ROUND	%r14d, %r15d, %r8d,  %r9d,  %r10d, %r11d, %r12d, %r13d, %ebx, %ecx, 2
	ROUND	%r13d, %r14d, %r15d, %r8d,  %r9d,  %r10d, %r11d, %r12d, %ecx, %ebx, 3
	ROUND	%r12d, %r13d, %r14d, %r15d, %r8d,  %r9d,  %r10d, %r11d, %ebx, %ecx, 4
	ROUND	%r11d, %r12d, %r13d, %r14d, %r15d, %r8d,  %r9d,  %r10d, %ecx, %ebx, 5
	ROUND	%r10d, %r11d, %r12d, %r13d, %r14d, %r15d, %r8d,  %r9d,  %ebx, %ecx, 6
	ROUND	%r9d,  %r10d, %r11d, %r12d, %r13d, %r14d, %r15d, %r8d,  %ecx, %ebx, 7
	add	$32, %rdi
	add	$32, %rbp
	lea	sha256_k_end(%rip), %rax
	cmp	%rax, %rbp
	jb	3b

	lea	digest(%rip), %rbp
	add	%r8d, (%rbp)
	add	%r9d, 4(%rbp)
	add	%r10d, 8(%rbp)
	add	%r11d, 12(%rbp)
	add	%r12d, 16(%rbp)
	add	%r13d, 20(%rbp)
	add	%r14d, 24(%rbp)
	add	%r15d, 28(%rbp)
	ret

/* ------------------------------------------------------------------------
 * Data that never changes.  The descriptors' "accessed" bits are set already:
 * otherwise the processor would write them, into this page.
 */
	.balign	16, FILL
gdt:
	.quad	0
	.quad	0
	.quad	0x00af9b000000ffff	/* 0x10: 64-bit code */
	.quad	0x00cf93000000ffff	/* 0x18: flat data */
gdt_end:
gdt32:
	.quad	0
	.quad	0
	.quad	0x00cf9b000000ffff	/* 0x10: 32-bit code */
	.quad	0x00cf93000000ffff	/* 0x18: flat data */
gdt32_end:

sha256_h:
	.long	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a
	.long	0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19
sha256_k:
	.long	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5
	.long	0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5
	.long	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3
	.long	0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174
	.long	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc
	.long	0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da
	.long	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7
	.long	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967
	.long	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13
	.long	0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85
	.long	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3
	.long	0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070
	.long	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5
	.long	0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3
	.long	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208
	.long	0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
sha256_k_end:

s_name:		.asciz	"pykexec: "
/* These begin a line: the crashed kernel may have stopped within one. */
s_checking:	.asciz	"\r\npykexec: checking\r\n"
s_unchecked:	.asciz	"\r\npykexec: not checking\r\n"
s_again:	.asciz	"checking again\r\n"
s_waiting:	.asciz	"waiting "
s_for_devices:	.asciz	" s for devices "
s_starting:	.asciz	"starting\r\n"
s_tables:	.asciz	"tables do not match\r\n"
s_region:	.asciz	"region "
s_at:		.asciz	" at 0x"
s_no_match:	.asciz	" does not match\r\n"
s_headers:	.asciz	"headers do not match\r\n"
s_unbound:	.asciz	"headers were never bound\r\n"
s_exception:	.asciz	"exception "
s_stub_at:	.asciz	", stub at 0x"
s_cr2:		.asciz	", cr2 0x"
s_refused:	.asciz	"kernel not started, "
s_reset:	.asciz	"reset in "
s_seconds:	.ascii	" s"		/* and on with the end of the line */
s_newline:	.asciz	"\r\n"
s_halted:	.asciz	"halted\r\n"

/* ------------------------------------------------------------------------
 * What changes, on a page of its own.  Whatever needs a first value gets it
 * in the code: no one promises zeros here.
 */
	.bss
	.balign	16
idt:		.skip	32 * 16
idt_end:
w:		.skip	64 * 4		/* the message schedule */
pad:		.skip	2 * 64		/* the last one or two blocks */
digest:		.skip	8 * 4
uart:		.skip	4		/* base port; 0: be silent */
faults:		.skip	4
pit_dead:	.skip	4
tsc_khz:	.skip	4		/* 0: unknown, or given up */
	.balign	16
		.skip	2048
stack_top:
