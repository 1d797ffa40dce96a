import Executors
import Synchronization
import SyncModel
import Transport

/// Further connections to the same place, for what goes on while the shell itself serves others.
extension RemoteShell {
  /// Runs a body over another connection to the same place, on a thread of its own: this one serves others meanwhile. It is interrupted with this one.
  nonisolated func withCompanion<Answer: Sendable>(
    _ body: @Sendable (isolated RemoteShell) throws(TransportError) -> Answer
  ) async throws(TransportError) -> Answer {
    let prepared = await takeSpare()
    let companion = prepared ?? makeCompanion()
    // Asked after it is among those that are interrupted.
    if place == nil || interrupter.isInterrupted { companion.interrupt() }
    let answer: Result<Answer, TransportError>
    do throws(TransportError) {
      if prepared == nil { try await logIn(companion) }
      answer = .success(try await companion.interruptibly(body))
    } catch {
      answer = .failure(error)
    }
    await dismiss(companion)
    return try answer.get()
  }

  private nonisolated func makeCompanion() -> RemoteShell {
    let companion = RemoteShell(
      settings: settings, connector: connector, hashingSilence: hashingSilence, gate: nil, interrupter: Interrupter())
    companions.withLock { $0.append(companion) }
    return companion
  }

  private nonisolated func dismiss(_ companion: RemoteShell) async {
    await companion.close()
    companions.withLock { $0.removeAll { $0 === companion } }
  }

  // MARK: Before anybody wants one

  /// A companion that logs in, and whether it did.
  struct Spare: Sendable {
    let companion: RemoteShell
    let isReady: Task<Bool, Never>
    /// Dismisses it after `spareTime`.
    let expiry: Task<Void, Never>
  }

  /// Later it may have been dropped on the way without a word.
  private static let spareTime = Duration.seconds(20)

  /// Has a companion log in, for the next who wants one: that takes a dozen round trips.
  nonisolated func prepareCompanion() {
    guard admitsCompanions else { return }
    let companion = makeCompanion()
    let task = Task {
      // Whoever wants one finds out why there is none.
      do throws(TransportError) { try await logIn(companion, isWanted: false) } catch { return false }
      return true
    }
    let expiry = Task { [weak self] in
      // Cancelled where it was taken.
      do { try await Task.sleep(for: Self.spareTime) } catch { return }
      await self?.dismissSpare(companion)
    }
    spare.withLock { $0 = Spare(companion: companion, isReady: task, expiry: expiry) }
  }

  /// The one that has logged in before; nil where there is none, or it is of no use any more.
  private nonisolated func takeSpare() async -> RemoteShell? {
    guard let spare = spare.withLock({ $0.take() }) else { return nil }
    spare.expiry.cancel()
    let isReady = await withTaskCancellationHandler {
      await spare.isReady.value
    } onCancel: {
      spare.companion.interrupt()
      spare.isReady.cancel()
    }
    if isReady { return spare.companion }
    await dismiss(spare.companion)
    return nil
  }

  /// Nobody wants it any more.
  /// - Parameter companion: Only where it is this one.
  nonisolated func dismissSpare(_ companion: RemoteShell? = nil) async {
    let taken = spare.withLock { spare in companion == nil || spare?.companion === companion ? spare.take() : nil }
    guard let spare = taken else { return }
    spare.expiry.cancel()
    spare.companion.interrupt()
    // It may be waiting for its turn to log in, which no interruption reaches.
    spare.isReady.cancel()
    _ = await spare.isReady.value
    await dismiss(spare.companion)
  }

  /// A NAS that lets nobody else in is not asked again and again: that looks like somebody who tries passwords.
  private static let patience = Duration.seconds(3600)

  nonisolated var admitsCompanions: Bool { refusal.withLock { $0?.hasPassed ?? true } }

  /// - Parameter isWanted: Clear where nobody would miss it: that it failed by chance says nothing then.
  private nonisolated func logIn(_ companion: RemoteShell, isWanted: Bool = true) async throws(TransportError) {
    guard admitsCompanions else {
      throw .failure(
        SyncFailure(.auth, "\(displayText(settings.host)) let no further connection in", hint: "It is tried again within the hour."),
        sessionLost: false)
    }
    try await gate?.enter()
    let result: Result<Void, TransportError>
    do throws(TransportError) {
      result = .success(try await companion.logIn())
    } catch {
      result = .failure(error)
    }
    await gate?.leave()
    if case .failure(let error) = result, isWanted ? error.failure.kind != .interrupted : error.failure.kind == .auth {
      refusal.withLock { $0 = Deadline(after: Self.patience) }
    }
    try result.get()
  }

  private func logIn() async throws(TransportError) {
    try await interruptibly { (shell) throws(TransportError) in _ = try shell.connect() }
  }
}
