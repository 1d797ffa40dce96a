import SyncModel
import Transport

/// A file that this program writes beside a run (manifest, receipt, record), as the NAS gives it. It is held in memory whole, so that what the NAS
/// gives must be bounded by what such a file can have.
enum RemoteDocument: Sendable {
  case missing
  case whole([UInt8])
  /// It goes on beyond what such a file can have, and is none of this program's.
  case tooLong

  /// The content where it is there as a whole.
  var content: [UInt8]? { if case .whole(let content) = self { content } else { nil } }

  /// Room for what does not depend on the number of files, and for names that are neither of the run nor on the NAS.
  private static let base = 16 << 20

  /// Bytes that a receipt may have of which nothing is known yet: it names what was left out and what is somebody else's, seldom much.
  static let receiptLimit = 32 << 20

  /// Bytes that a document may have which names these files, each with a digest and its name escaped.
  /// - Parameter further: Others that it may name, too.
  static func limit(_ names: some Sequence<RelativePath>, _ further: some Sequence<RelativePath> = [RelativePath]()) -> Int {
    further.reduce(names.reduce(base) { $0 + 6 * $1.bytes.count + 100 }) { $0 + 6 * $1.bytes.count + 100 }
  }

  /// Reads a whole file, or as much of it as shows that it is too long.
  static func read(_ path: RemotePath, limit: Int, session: any TransportSession) async throws(TransportError) -> RemoteDocument {
    let collector = Collector(limit: limit)
    do throws(TransportError) {
      try await session.download(path, from: 0) { (chunk) async throws(SyncFailure) in try await collector.add(chunk) }
    } catch {
      if await collector.isTooLong, !error.sessionLost { return .tooLong }
      if case .notFound = error { return .missing }
      throw error
    }
    return .whole(await collector.bytes)
  }

  private actor Collector {
    private(set) var bytes: [UInt8] = []
    private(set) var isTooLong = false
    private let limit: Int

    init(limit: Int) { self.limit = limit }

    func add(_ chunk: [UInt8]) throws(SyncFailure) {
      guard bytes.count + chunk.count <= limit else {
        isTooLong = true
        bytes = []
        throw SyncFailure(.protocol, "a file on the NAS is too long", hint: "Look at it there.")
      }
      bytes += chunk
    }
  }
}
