import SyncModel

/// An entry that lets one class of finding pass.
package struct Override: Hashable, Sendable {
  /// A UUID where this program wrote it; read as it is.
  package let id: String
  package let problemClass: FindingClass
  /// Who recorded it.
  package let operatorName: String
  /// As spelled in the record.
  package let recordedAt: String
  /// As spelled; nil where it does not expire.
  package let expiresAt: String?
  package let reason: String
  /// Narrows the override to findings on this path below the run; nil for all of the class.
  package let path: String?

  /// - Parameters:
  ///   - id: Nil makes a new random UUID.
  ///   - recordedAt: Seconds since 1970.
  ///   - expiresAt: Seconds since 1970, nil for never.
  package init(
    id: String? = nil, problemClass: FindingClass, operatorName: String, recordedAt: Double, expiresAt: Double? = nil, reason: String,
    path: String? = nil
  ) {
    self.id = id ?? OverrideEntry.newID()
    self.problemClass = problemClass
    self.operatorName = operatorName
    self.recordedAt = Timestamp.text(recordedAt)
    self.expiresAt = expiresAt.map(Timestamp.text)
    self.reason = reason
    self.path = path
  }

  fileprivate init(
    id: String, problemClass: FindingClass, operatorName: String, recordedAt: String, expiresAt: String?, reason: String, path: String?
  ) {
    self.id = id
    self.problemClass = problemClass
    self.operatorName = operatorName
    self.recordedAt = recordedAt
    self.expiresAt = expiresAt
    self.reason = reason
    self.path = path
  }

  /// Seconds since 1970; nil where it does not expire. An entry whose expiry could not be read never becomes a value of this type.
  package var expiry: Double? { expiresAt.flatMap(Timestamp.seconds(parsing:)) }
}

/// An entry that cancels an override, whenever it was made.
package struct Revocation: Hashable, Sendable {
  package let id: String
  /// The id of the override.
  package let revokes: String
  package let operatorName: String
  /// As spelled in the record.
  package let recordedAt: String
  package let reason: String

  /// - Parameters:
  ///   - id: Nil makes a new random UUID.
  ///   - recordedAt: Seconds since 1970.
  package init(id: String? = nil, revokes: String, operatorName: String, recordedAt: Double, reason: String) {
    self.id = id ?? OverrideEntry.newID()
    self.revokes = revokes
    self.operatorName = operatorName
    self.recordedAt = Timestamp.text(recordedAt)
    self.reason = reason
  }

  fileprivate init(id: String, revokes: String, operatorName: String, recordedAt: String, reason: String) {
    self.id = id
    self.revokes = revokes
    self.operatorName = operatorName
    self.recordedAt = recordedAt
    self.reason = reason
  }
}

/// One element of `validation_overrides`.
package enum OverrideEntry: Hashable, Sendable {
  case override(Override)
  case revocation(Revocation)

  /// Why an element is none.
  struct Malformed: Error { let reason: String }

  init(_ node: JSONNode) throws(Malformed) {
    guard case .object(let members) = node.value else { throw Malformed(reason: "it is not an object") }
    if Set(members.map(\.key)).count != members.count { throw Malformed(reason: "a key stands there twice") }
    let id = try Self.required("id", in: node)
    let operatorName = try Self.required("operator", in: node)
    let recordedAt = try Self.required("recorded_at", in: node)
    guard Timestamp.seconds(parsing: recordedAt) != nil else { throw Malformed(reason: "recorded_at is not a time with a zone") }
    let reason = try Self.required("reason", in: node)
    guard case .one(let flag) = JSONDocument.lookUp("revoked", in: node), case .bool(let revoked) = flag.value else {
      throw Malformed(reason: "revoked is not true or false")
    }
    if revoked {
      self = .revocation(
        Revocation(
          id: id, revokes: try Self.required("revokes", in: node), operatorName: operatorName, recordedAt: recordedAt, reason: reason))
      return
    }
    let expiresAt = try Self.optional("expires_at", in: node)
    if let expiresAt, Timestamp.seconds(parsing: expiresAt) == nil {
      throw Malformed(reason: "expires_at is not a time with a zone: \(displayText(expiresAt))")
    }
    self = .override(
      Override(
        id: id, problemClass: FindingClass(rawValue: try Self.required("problem_class", in: node)), operatorName: operatorName,
        recordedAt: recordedAt, expiresAt: expiresAt, reason: reason, path: try Self.optional("path", in: node)))
  }

  private static func required(_ key: String, in node: JSONNode) throws(Malformed) -> String {
    guard let text = try optional(key, in: node), !text.isEmpty else { throw Malformed(reason: "\(key) is missing or empty") }
    return text
  }

  private static func optional(_ key: String, in node: JSONNode) throws(Malformed) -> String? {
    guard case .one(let value) = JSONDocument.lookUp(key, in: node) else { return nil }
    switch value.value {
    case .string(let bytes): return String(decoding: bytes, as: UTF8.self)
    case .null: return nil
    default: throw Malformed(reason: "\(key) is not a string")
    }
  }

  /// Keys and JSON values in the order of the published format.
  var members: [(key: String, json: [UInt8])] {
    func text(_ key: String, _ value: String) -> (key: String, json: [UInt8]) { (key, JSONDocument.quoted(value)) }
    switch self {
    case .override(let entry):
      var members = [
        text("id", entry.id), text("problem_class", entry.problemClass.rawValue), text("operator", entry.operatorName),
        text("recorded_at", entry.recordedAt),
      ]
      if let expiresAt = entry.expiresAt { members.append(text("expires_at", expiresAt)) }
      members.append(text("reason", entry.reason))
      if let path = entry.path { members.append(text("path", path)) }
      members.append(("revoked", Array("false".utf8)))
      return members
    case .revocation(let entry):
      return [
        text("id", entry.id), text("revokes", entry.revokes), text("operator", entry.operatorName), text("recorded_at", entry.recordedAt),
        text("reason", entry.reason), ("revoked", Array("true".utf8)),
      ]
    }
  }

  /// A random UUID (RFC 9562, version 4) in lower case.
  static func newID() -> String {
    let high = UInt64.random(in: .min ... .max) & ~0xf000 | 0x4000
    let low = UInt64.random(in: .min ... .max) & ~(0xc000 << 48) | 0x8000 << 48
    func digits(_ value: UInt64) -> [UInt8] {
      let text = Array(String(value, radix: 16).utf8)
      return Array(repeating: UInt8(ascii: "0"), count: max(0, 16 - text.count)) + text
    }
    let all = digits(high) + digits(low)
    let groups = [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { String(decoding: all[$0], as: UTF8.self) }
    return groups.joined(separator: "-")
  }
}
