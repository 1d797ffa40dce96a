import Glibc
import Synchronization

/// The signals that ask the program to stop or to look at its configuration again.
package enum StopSignal: Int32, Hashable, Sendable, CaseIterable {
  case hangUp = 1
  case interrupt = 2
  case terminate = 15

  /// As people know it.
  package var name: String {
    switch self {
    case .hangUp: "SIGHUP"
    case .interrupt: "SIGINT"
    case .terminate: "SIGTERM"
    }
  }
}

/// Takes signals on the main thread, by `sigwait`, so that they arrive whatever the other threads are busy with and no handler has to be
/// async-signal-safe. The signals are blocked before any other thread exists, and every thread inherits that.
///
/// A command that does not listen ends by the signal as any program does. The second request to stop ends also one that listens: the queue
/// survives that.
package final class SignalWatch: Sendable {
  /// Those that whoever started the program did not have ignored, as `nohup` and background jobs of scripts do.
  private let taken: [StopSignal]
  private let listener = Mutex<AsyncStream<StopSignal>.Continuation?>(nil)

  /// Blocks the signals in the calling thread and in those it will start. Call it on the main thread, before there is any other.
  package init() {
    taken = StopSignal.allCases.filter { !Self.isIgnored($0) }
    var signals = Self.set(of: taken)
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    // A reader that went away is an error of `write`, which the console knows how to take; sockets likewise.
    signal(SIGPIPE, SIG_IGN)
  }

  /// The signals from now on, to one listener. Until `ignoreNoMore()` they do not end the program by themselves.
  package func listen() -> AsyncStream<StopSignal> {
    AsyncStream { continuation in listener.withLock { $0 = continuation } }
  }

  /// Ends the stream; signals end the program again.
  package func ignoreNoMore() {
    let continuation = listener.withLock { listener in
      defer { listener = nil }
      return listener
    }
    continuation?.finish()
  }

  /// Waits for signals for ever. On the main thread.
  func run() -> Never {
    var signals = Self.set(of: taken)
    var stopping = false
    while true {
      // Nothing to wait for would be an error of `sigwait`, again and again.
      guard !taken.isEmpty else {
        pause()
        continue
      }
      var number: Int32 = 0
      guard sigwait(&signals, &number) == 0, let signal = StopSignal(rawValue: number) else { continue }
      let continuation = listener.withLock { $0 }
      guard let continuation, !(stopping && signal != .hangUp) else { Self.end(by: number) }
      if signal != .hangUp { stopping = true }
      continuation.yield(signal)
    }
  }

  /// Ends the process by the signal, so that whoever started it sees what ended it.
  private static func end(by number: Int32) -> Never {
    signal(number, SIG_DFL)
    var only = sigset_t()
    sigemptyset(&only)
    sigaddset(&only, number)
    pthread_sigmask(SIG_UNBLOCK, &only, nil)
    kill(getpid(), number)
    _exit(128 + number)
  }

  private static func isIgnored(_ signal: StopSignal) -> Bool {
    var action = sigaction()
    guard sigaction(signal.rawValue, nil, &action) == 0 else { return false }
    return unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self)
  }

  private static func set(of signals: [StopSignal]) -> sigset_t {
    var set = sigset_t()
    sigemptyset(&set)
    for signal in signals { sigaddset(&set, signal.rawValue) }
    return set
  }
}
