import Foundation
import NASSync
import SyncModel

/// `override add RUN --class C --reason R [--path P] [--expires T]`: lets one class of finding pass in one run, on the record.
struct OverrideAddCommand: Sendable {
  let run: String
  let equipment: String?
  let problemClass: FindingClass
  let reason: String
  let path: RelativePath?
  let expires: OverrideExpiry?

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    let end = expires.map { Self.moment($0, now: SystemClock().wallSeconds) }
    let path: String?
    if let given = self.path {
      // Typed text was read into the path, so it is UTF-8.
      guard let text = String(validating: given.bytes, as: UTF8.self) else {
        throw CommandFailure(exit: .usage, kind: "usage", message: "--path is not UTF-8", hint: "Leave --path out.")
      }
      path = text
    } else {
      path = nil
    }
    let added = try await context.withClient { (client) async throws(CommandFailure) in
      try await asking { () async throws(SyncFailure) in
        try await client.addOverride(
          run, equipment: equipment, problemClass: problemClass, reason: reason, path: path, expiresAt: end)
      }
    }
    let until = added.expiresAt.map { " until \(displayText($0))" } ?? ""
    await context.console.say([
      "override \(displayText(added.id)): \(displayText(added.problemClass.rawValue)) may pass\(until)",
      "Next: nassync enqueue \(shellWord(run))\(equipment.map { " --equipment \(shellWord($0))" } ?? "")",
    ])
    await context.console.document(added)
    return .done
  }

  static func moment(_ expiry: OverrideExpiry, now: Double) -> Date {
    switch expiry {
    case .at(let seconds): Date(timeIntervalSince1970: Double(seconds))
    case .after(let seconds): Date(timeIntervalSince1970: now + Double(seconds))
    }
  }
}
