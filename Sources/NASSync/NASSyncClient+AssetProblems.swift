import Foundation
import JobQueue
import SyncModel

/// What is wrong with assets that are not finished.
extension NASSyncClient {
  /// Unfinished assets that failed, are tried again later, or that nobody sends.
  func problemsOfAssets(_ rows: [AssetUploadRow]) -> [Problem] {
    let now = clock.wallSeconds
    return rows.compactMap { row in
      let asset = "asset \(row.number) (\(displayText(row.type)))"
      let run = "`nassync asset run \(row.number)`"
      let (problemClass, message, next): (String, String, String)
      switch row.lastError {
      case .some(let error) where row.nextAttemptAt == nil:
        (problemClass, message, next) = ("asset_failed", "\(asset): \(error.message)", "\(error.hint) Then \(run).")
      case .some(let error):
        (problemClass, message, next) = ("asset_waiting", "\(asset): \(error.message)", "\(run) tries again once its time has come.")
      case nil:
        // No service sends assets by itself. One that is being sent changes its row with each component.
        guard now - row.updatedAt > Self.longestIdle else { return nil }
        (problemClass, message, next) = ("asset_not_sent", "\(asset) was recorded, and nobody has sent it", "\(run) sends it.")
      }
      return Problem(
        problemClass: problemClass, severity: problemClass == "asset_failed" ? .critical : .warning, runPath: nil, equipmentID: nil,
        destination: row.service, since: Date(timeIntervalSince1970: row.updatedAt), message: message,
        blocks: "the asset is not ready at the service", nextStep: next)
    }
  }
}
