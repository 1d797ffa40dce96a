import CLinux
import NASSyncCLI

clinux_tune_malloc()
// Everything is in the library target, where tests can reach it. This never returns: the main thread waits for signals until the command
// has ended (see SignalWatch).
Program.main()
