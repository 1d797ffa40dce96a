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
    let companion = RemoteShell(
      settings: settings, connector: connector, hashingSilence: hashingSilence, gate: nil, interrupter: Interrupter())
    companions.withLock { $0.append(companion) }
    // Asked after it is among those that are interrupted.
    if place == nil || interrupter.isInterrupted { companion.interrupt() }
    let answer: Result<Answer, TransportError>
    do throws(TransportError) {
      try await logIn(companion)
      answer = .success(try await companion.interruptibly(body))
    } catch {
      answer = .failure(error)
    }
    await companion.close()
    companions.withLock { $0.removeAll { $0 === companion } }
    return try answer.get()
  }

  /// A NAS that lets nobody else in is not asked again and again: that looks like somebody who tries passwords.
  private static let patience = Duration.seconds(3600)

  nonisolated var admitsCompanions: Bool { refusal.withLock { $0?.hasPassed ?? true } }

  private nonisolated func logIn(_ companion: RemoteShell) async throws(TransportError) {
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
    if case .failure(let error) = result, error.failure.kind != .interrupted {
      refusal.withLock { $0 = Deadline(after: Self.patience) }
    }
    try result.get()
  }

  private func logIn() async throws(TransportError) {
    try await interruptibly { (shell) throws(TransportError) in _ = try shell.connect() }
  }
}
