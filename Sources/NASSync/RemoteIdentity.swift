import Foundation
import SyncModel

/// Whether a run that lies on the NAS already is this one: equal files alone do not make two runs of two instruments one run.
enum RemoteIdentity {
  /// - Parameters:
  ///   - receipt: The bytes of `receipt.json` there, nil where there is none.
  ///   - remoteRecord: The bytes of `creation.json` there.
  ///   - localRecord: The bytes of `creation.json` here.
  /// - Returns: What says that it is another run; nil where nothing does.
  static func difference(
    receipt: [UInt8]?, remoteRecord: [UInt8]?, localRecord: [UInt8]?, equipment: String
  ) -> String? {
    if let receipt, let decoded = Receipt.decode(receipt), decoded.equipmentID != equipment {
      return "its receipt says that it is a run of \(displayText(decoded.equipmentID))"
    }
    guard let remoteRecord, let localRecord else { return nil }
    guard let there = origin(remoteRecord), let here = origin(localRecord) else {
      return remoteRecord == localRecord ? nil : "its record cannot be compared with the one here"
    }
    return there == here ? nil : "its record (creation.json) is that of another run"
  }

  /// A record without what changes while a run is synced: `sync_status` and the overrides.
  private static func origin(_ record: [UInt8]) -> NSDictionary? {
    let parsed = try? JSONSerialization.jsonObject(with: Data(record))  // what cannot be parsed is compared byte by byte instead
    guard var members = parsed as? [String: Any] else { return nil }
    members["sync_status"] = nil
    members["validation_overrides"] = nil
    return members as NSDictionary
  }
}
