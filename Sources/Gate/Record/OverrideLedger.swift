import Digests
import SyncModel

/// The chain through `validation_overrides`: each entry that this program writes carries the hash of the one before it.
///
/// It shows what was changed, removed or reordered by mistake or by hand. It is no signature: whoever can write the record can write a whole
/// new chain. Entries of other programs have no hash and are taken as they are.
package struct OverrideLedger: Hashable, Sendable {
  /// The key in an entry.
  static let key = "previous_sha256"
  /// What the first entry carries.
  static let start = String(repeating: "0", count: 64)

  /// An entry that does not follow from the one before it.
  package struct Fault: Hashable, Sendable {
    /// From 1.
    package let entry: Int
    /// The entry's id, where it has one.
    package let id: String?
    package let reason: String
  }

  /// How many entries there are.
  package let entries: Int
  /// How many of them carry a hash.
  package let chained: Int
  package let faults: [Fault]

  /// Looks through the ledger of a record.
  init(_ document: JSONDocument) {
    let elements = Self.elements(of: document)
    entries = elements.count
    var chained = 0
    var faults: [Fault] = []
    for (index, element) in elements.enumerated() {
      let given: JSONNode
      switch JSONDocument.lookUp(Self.key, in: element) {
      case .absent: continue
      case .repeated:
        faults.append(Fault(entry: index + 1, id: Self.id(of: element), reason: "\(Self.key) stands there twice"))
        continue
      case .one(let node): given = node
      }
      chained += 1
      let expected = Self.hash(before: index, in: elements, of: document)
      guard case .string(let text) = given.value, text.elementsEqual(expected.utf8) else {
        let reason =
          index == 0
          ? "an entry that was before it is not there any more"
          : "the entry before it is not the one that it was written after: one was changed, removed or put elsewhere"
        faults.append(Fault(entry: index + 1, id: Self.id(of: element), reason: reason))
        continue
      }
    }
    self.chained = chained
    self.faults = faults
  }

  /// What the next entry of a record has to carry.
  static func next(in document: JSONDocument) -> String {
    let elements = elements(of: document)
    return hash(before: elements.count, in: elements, of: document)
  }

  private static func hash(before index: Int, in elements: [JSONNode], of document: JSONDocument) -> String {
    guard index > 0 else { return start }
    // Without SHA-256 in libcrypto nothing in this program works; an empty text is no entry's hash, and so never taken for one.
    return SHA256Hasher.digest(of: CanonicalJSON.bytes(of: elements[index - 1], in: document.bytes))?.hex ?? ""
  }

  private static func elements(of document: JSONDocument) -> [JSONNode] {
    guard case .one(let node) = document.lookUp("validation_overrides"), case .array(let elements) = node.value else { return [] }
    return elements
  }

  private static func id(of element: JSONNode) -> String? {
    guard case .one(let node) = JSONDocument.lookUp("id", in: element), case .string(let bytes) = node.value else { return nil }
    return String(decoding: bytes, as: UTF8.self)
  }
}
