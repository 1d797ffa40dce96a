import CLinux
import Glibc
import Synchronization

/// A serial executor that owns one operating-system thread and runs its jobs there, first in, first out.
///
/// Blocking C calls (libssh, SQLite, file reads) never run on the cooperative pool: an actor that makes them returns a
/// `ThreadExecutor` as its `unownedExecutor` and calls `shutdown()` from its `deinit`. The thread keeps the executor alive until
/// `shutdown()` has been called and every job enqueued before it has run.
///
/// An executor may also pump I/O: while a pump is installed, the thread calls it whenever the queue of jobs is empty, and the pump
/// waits in `poll(2)` on its own descriptors together with `wakeDescriptor`, so that a new job ends the wait at once.
public final class ThreadExecutor: SerialExecutor, Sendable {
  /// What the thread does between jobs. Called on the executor's own thread only.
  public typealias Pump = @Sendable () -> Void

  private struct State {
    var jobs: [UnownedJob] = []
    var stopping = false
    /// True from the moment the thread found no job until it has looked again: only then must `enqueue` write to the eventfd.
    var idle = false
    var pump: Pump?
  }

  private let state = Mutex(State())
  private let threadID = Atomic<UInt>(0)
  private let name: String
  /// Readable while a job waits. A pump includes it in its `poll(2)`.
  public let wakeDescriptor: Int32

  /// Starts the thread.
  /// - Parameter name: Shown by debuggers and `top -H`; the first 15 bytes count.
  public init(name: String) {
    self.name = name
    self.wakeDescriptor = clinux_eventfd()
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    pthread_attr_setstacksize(&attributes, 1 << 20)
    let me = Unmanaged.passRetained(self)
    var thread = pthread_t()
    let status = pthread_create(
      &thread, &attributes,
      { raw in
        guard let raw else { return nil }
        Unmanaged<ThreadExecutor>.fromOpaque(raw).takeRetainedValue().run()
        return nil
      }, me.toOpaque())
    pthread_attr_destroy(&attributes)
    // EAGAIN here means that the machine has no thread left: nothing could ever run on this executor, and every await on it
    // would hang silently. Stopping with a sentence is the lesser evil; the queue file is crash-safe.
    precondition(status == 0, "NASSync cannot start a thread (pthread_create: \(status)); raise the limit on threads (ulimit -u)")
  }

  deinit {
    if wakeDescriptor >= 0 { close(wakeDescriptor) }
  }

  /// Ends the thread once the jobs that wait now have run. May be called from any thread, more than once.
  public func shutdown() {
    state.withLock { $0.stopping = true }
    wake()
  }

  /// Installs (or removes, with nil) the pump.
  public func setPump(_ pump: Pump?) {
    state.withLock { $0.pump = pump }
    wake()
  }

  /// Makes the thread look at its queue again. Async-signal-safe.
  public func wake() {
    var one: UInt64 = 1
    _ = write(wakeDescriptor, &one, 8)
  }

  /// Called by the Swift runtime.
  public func enqueue(_ job: consuming ExecutorJob) {
    let unowned = UnownedJob(job)
    let mustWake = state.withLock { state in
      state.jobs.append(unowned)
      return state.idle
    }
    if mustWake { wake() }
  }

  /// Called by the Swift runtime, e.g. for `assumeIsolated`.
  public func checkIsolated() {
    precondition(isCurrent, "not on the thread \(name)")
  }

  /// Whether the caller runs on this executor's thread.
  public var isCurrent: Bool { threadID.load(ordering: .acquiring) == UInt(pthread_self()) }

  /// Whether a job waits: a pump that has work of its own asks this to be fair.
  public var hasJobs: Bool { state.withLock { !$0.jobs.isEmpty } }

  private func run() {
    threadID.store(UInt(pthread_self()), ordering: .releasing)
    clinux_name_thread(name)
    // Signals belong to the main thread: a stray SIGTERM must not interrupt a system call here.
    var all = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_BLOCK, &all, nil)
    while true {
      let (batch, pump, stopping) = state.withLock { state in
        let batch = state.jobs
        state.jobs.removeAll(keepingCapacity: false)
        state.idle = batch.isEmpty
        return (batch, state.pump, state.stopping)
      }
      if batch.isEmpty {
        if stopping { return }
        if let pump { pump() } else { waitForWake() }
        state.withLock { $0.idle = false }
        drainWake()
        continue
      }
      for job in batch { job.runSynchronously(on: asUnownedSerialExecutor()) }
    }
  }

  private func waitForWake() {
    var descriptor = pollfd(fd: wakeDescriptor, events: Int16(POLLIN), revents: 0)
    _ = poll(&descriptor, 1, -1)
  }

  private func drainWake() {
    var value: UInt64 = 0
    _ = read(wakeDescriptor, &value, 8)
  }

  /// Runs a blocking body on this thread and returns its result.
  public func run<Result: Sendable, Failure: Error>(
    _ body: @Sendable @escaping () throws(Failure) -> Result
  ) async throws(Failure) -> Result {
    let worker = Worker(executor: self)
    return try await worker.perform(body)
  }

  private actor Worker {
    nonisolated let executor: ThreadExecutor
    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
    init(executor: ThreadExecutor) { self.executor = executor }
    func perform<Result: Sendable, Failure: Error>(
      _ body: @Sendable () throws(Failure) -> Result
    ) throws(Failure) -> Result {
      try body()
    }
  }
}
