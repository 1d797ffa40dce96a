import SyncModel
import Transport

/// Lets a few handshakes happen at a time: sshd refuses the eleventh connection that has not logged in yet.
package actor HandshakeGate {
  private var free: Int
  private var waiters: [(ticket: UInt64, continuation: CheckedContinuation<Bool, Never>)] = []
  private var nextTicket: UInt64 = 0

  init(_ width: Int) { free = max(width, 1) }

  /// Waits for its turn.
  /// - Throws: `.interrupted` when the task is cancelled meanwhile.
  func enter() async throws(TransportError) {
    if !Task.isCancelled, free > 0 {
      free -= 1
      return
    }
    nextTicket += 1
    let ticket = nextTicket
    let admitted = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        if Task.isCancelled { continuation.resume(returning: false) } else { waiters.append((ticket, continuation)) }
      }
    } onCancel: {
      Task { await self.withdraw(ticket) }
    }
    guard admitted else {
      throw SFTPClient.lost(.interrupted, "connecting was interrupted", hint: "It is tried again.")
    }
  }

  /// Ends a turn that `enter` granted.
  func leave() {
    if waiters.isEmpty { free += 1 } else { waiters.removeFirst().continuation.resume(returning: true) }
  }

  private func withdraw(_ ticket: UInt64) {
    guard let index = waiters.firstIndex(where: { $0.ticket == ticket }) else { return }
    waiters.remove(at: index).continuation.resume(returning: false)
  }
}
