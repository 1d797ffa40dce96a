import Foundation
import NASSync

/// Where assets stand, for people.
enum AssetText {
  /// `asset 3 (checkpoint, 2 files, 1.2 MB)`.
  static func title(_ asset: AssetUpload) -> String {
    let id = asset.assetID.map { ", \(displayText($0)) at the service" } ?? ""
    return "asset \(asset.number) (\(displayText(asset.assetType)), \(Quantities.count(asset.components.count, "file")), "
      + "\(Quantities.bytes(bytes(asset)))\(id))"
  }

  /// A row an asset.
  static func table(_ assets: [AssetUpload], all: Bool, width: Int?) -> [String] {
    guard !assets.isEmpty else { return [all ? "No asset is on record." : "No asset is unfinished."] }
    var table = TextTable([
      .init("NUMBER", .right), .init("STATE"), .init("TYPE", shrinks: true), .init("FILES", .right), .init("SIZE", .right),
      .init("EVIDENCE"), .init("REMARK", shrinks: true),
    ])
    for asset in assets {
      table.add([
        String(asset.number), asset.state.rawValue, asset.assetType, "\(sent(asset))/\(asset.components.count)",
        Quantities.bytes(bytes(asset)), asset.state == .ready ? asset.evidence.rawValue : "", remark(asset),
      ])
    }
    return table.lines(width: width)
  }

  /// Everything that is known of one asset.
  static func details(_ asset: AssetUpload, width: Int?) -> [String] {
    var rows: [(String, String)] = [("asset", String(asset.number)), ("state", asset.state.rawValue), ("type", asset.assetType)]
    rows.append(("service", asset.service))
    if let id = asset.assetID { rows.append(("id there", id)) }
    rows.append(("files", "\(sent(asset)) of \(Quantities.count(asset.components.count, "file")) sent"))
    if asset.state == .ready {
      let meaning =
        switch asset.evidence {
        case .store: "store: the store compared SHA-256, and refused a wrong one"
        case .none: "none: the store said success; nobody here compared what it keeps"
        }
      rows.append(("evidence", meaning))
    }
    rows.append(("recorded", Moment.local(asset.createdAt)))
    if asset.attempts > 0 { rows.append(("attempts", String(asset.attempts))) }
    if let next = asset.nextAttemptAt { rows.append(("next try", Moment.local(next))) }
    if let error = asset.lastError {
      rows.append(("error", "\(error.message) (\(error.kind.rawValue))"))
      rows.append(("next step", error.hint))
    }
    let indent = rows.map(\.0.count).max() ?? 0
    var lines = rows.map { $0.0 + String(repeating: " ", count: indent - $0.0.count + 2) + displayText($0.1) }
    var table = TextTable([
      .init("STATE"), .init("SIZE", .right), .init("EVIDENCE"), .init("SHA-256"), .init("FILE", shrinks: true),
    ])
    for component in asset.components {
      let done = component.state == .completed
      table.add([
        component.state.rawValue, Quantities.bytes(component.size), done ? component.evidence.rawValue : "", component.sha256?.hex ?? "",
        component.name,
      ])
    }
    lines.append("")
    return lines + table.lines(width: width)
  }

  /// An asset that needs a person or time: what is wrong, and what to do.
  static func trouble(_ asset: AssetUpload) -> [String] {
    let waits = asset.state == .pending && asset.nextAttemptAt != nil && asset.lastError?.retry == true
    var lines = ["\(waits ? "waiting" : "failed"): \(title(asset))"]
    if let error = asset.lastError {
      lines.append("  \(displayText(error.message)) (\(error.kind.rawValue))")
      lines.append("  \(displayText(error.hint))")
    }
    if waits, let next = asset.nextAttemptAt {
      lines.append("  It is tried again by `nassync asset run` after \(Moment.local(next)).")
    } else if asset.state == .abandoned {
      lines.append("  It is given up: `nassync asset add` with its files makes a new asset of what is there then.")
    } else {
      lines.append("  Then: nassync asset run \(asset.number)")
    }
    return lines
  }

  private static func remark(_ asset: AssetUpload) -> String {
    guard let error = asset.lastError else { return asset.assetID ?? "" }
    let reason = "\(error.kind.rawValue): \(error.message)"
    return asset.nextAttemptAt.map { "again after \(Moment.local($0)); \(reason)" } ?? reason
  }

  private static func sent(_ asset: AssetUpload) -> Int { asset.components.count { $0.state == .completed } }

  private static func bytes(_ asset: AssetUpload) -> UInt64 { asset.components.reduce(0) { $0 &+ $1.size } }
}

/// An asset as `--json` shows it: every key always there, and the evidence of the whole.
struct AssetDocument: Encodable, Sendable {
  private let asset: AssetUpload

  init(_ asset: AssetUpload) { self.asset = asset }

  private enum Key: String, CodingKey {
    case number, assetID = "asset_id", assetType = "asset_type", service, state, attempts, nextAttemptAt = "next_attempt_at"
    case lastError = "last_error", createdAt = "created_at", evidence, components
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(asset.number, forKey: .number)
    try container.encode(asset.assetID, forKey: .assetID)
    try container.encode(asset.assetType, forKey: .assetType)
    try container.encode(asset.service, forKey: .service)
    try container.encode(asset.state, forKey: .state)
    try container.encode(asset.attempts, forKey: .attempts)
    try container.encode(asset.nextAttemptAt, forKey: .nextAttemptAt)
    try container.encode(asset.lastError, forKey: .lastError)
    try container.encode(asset.createdAt, forKey: .createdAt)
    try container.encode(asset.evidence, forKey: .evidence)
    try container.encode(asset.components.map(Component.init), forKey: .components)
  }

  private struct Component: Encodable {
    let component: AssetUpload.Component

    private enum Key: String, CodingKey {
      case name, localPath = "local_path", size, state, sha256, etag, evidence
    }

    func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: Key.self)
      try container.encode(component.name, forKey: .name)
      try container.encode(component.localPath, forKey: .localPath)
      try container.encode(component.size, forKey: .size)
      try container.encode(component.state, forKey: .state)
      try container.encode(component.sha256, forKey: .sha256)
      try container.encode(component.etag, forKey: .etag)
      try container.encode(component.evidence, forKey: .evidence)
    }
  }
}
