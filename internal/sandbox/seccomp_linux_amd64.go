package sandbox

import "golang.org/x/sys/unix"

const (
	nativeArch   = unix.AUDIT_ARCH_X86_64
	foreignCalls = 0x40000000 // the x32 calls begin here
)

var refusedHere = []uint32{unix.SYS_IOPERM, unix.SYS_IOPL}
