import Digests
import SQLite
import SyncModel

/// One asset on its way to a service by presigned URLs.
package struct AssetUploadRow: Hashable, Sendable {
  /// What can become of it.
  package enum State: String, Hashable, Sendable { case pending, ready, abandoned }

  package let number: Int64
  package let identity: ContentDigest
  package let service: String
  package let type: String
  package let idempotencyKey: String
  /// The service's name of it; nil until its answer was stored.
  package let assetID: String?
  package let state: State
  /// Counted failures since the last success or the last word of a caller.
  package let attempts: Int
  /// Wall clock, seconds since 1970.
  package let nextAttemptAt: Double?
  package let lastError: SyncFailure?
  /// Wall clock, seconds since 1970.
  package let createdAt: Double
  package let updatedAt: Double
}

/// One component of such an asset.
package struct AssetUploadComponentRow: Hashable, Sendable {
  /// How far it is.
  package enum State: String, Hashable, Sendable { case pending, uploading, completed }

  package let name: String
  package let localPath: String
  package let contentType: String
  /// The file as it was when the upload was recorded.
  package let fingerprint: FileFingerprint
  package var state = State.pending
  package var digest: ContentDigest?
  package var etag: String?
  /// Whether the store compared SHA-256 while it wrote.
  package var provenByStore = false

  package init(name: String, localPath: String, contentType: String, fingerprint: FileFingerprint) {
    self.name = name
    self.localPath = localPath
    self.contentType = contentType
    self.fingerprint = fingerprint
  }

  /// Whether the file of another row is the same one, unchanged.
  package func isSameFile(as other: AssetUploadComponentRow) -> Bool {
    name.utf8.elementsEqual(other.name.utf8) && fingerprint.size == other.fingerprint.size
      && fingerprint.modified == other.fingerprint.modified && fingerprint.changed == other.fingerprint.changed
      && fingerprint.inode == other.fingerprint.inode
  }
}

/// Storage of `PresignedUploader`: beside the jobs in the same file, every call one transaction.
extension SyncQueue {
  /// The upload that a call means: the one that is open, or the last one where it is ready and of the very same files, or a new one.
  package func assetUpload(
    identity: ContentDigest, service: String, type: String, newKey: String, components: [AssetUploadComponentRow]
  ) throws(SyncFailure) -> AssetUploadRow {
    let now = clock.wallSeconds
    return try write { (connection) throws(QueueError) in
      do throws(SQLiteError) {
        let last = try connection.first(
          "SELECT \(Self.uploadColumns) FROM asset_upload WHERE identity = ?1 ORDER BY state = 'pending' DESC, number DESC LIMIT 1",
          [.blob(identity.bytes)], Self.upload)
        if let last {
          if last.state == .pending { return last }
          let sent = try Self.components(connection, of: last.number)
          let wanted = components.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
          if last.state == .ready, sent.count == wanted.count, zip(sent, wanted).allSatisfy({ $0.isSameFile(as: $1) }) { return last }
        }
        try connection.run(
          "INSERT INTO asset_upload (identity, service, type, idempotency_key, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
          [.blob(identity.bytes), .text(service), .text(type), .text(newKey), .real(now)])
        let row = try connection.first(
          "SELECT \(Self.uploadColumns) FROM asset_upload WHERE idempotency_key = ?1", [.text(newKey)], Self.upload)
        guard let row else { throw SQLiteError(code: 1, message: "a row that was just written is not there") }
        for component in components {
          let print = component.fingerprint
          try connection.run(
            """
            INSERT INTO asset_upload_component
              (upload, name, local_path, content_type, device, inode, size, modified, changed, mode, updated_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
            """,
            [
              .integer(row.number), .text(component.name), .text(component.localPath), .text(component.contentType),
              .integer(Int64(bitPattern: print.device)), .integer(Int64(bitPattern: print.inode)), .size(print.size),
              .integer(print.modified), .integer(print.changed), .integer(Int64(print.mode)), .real(now),
            ])
        }
        return row
      } catch { throw .sqlite(error) }
    }
  }

  /// The upload of a number; nil where there is none.
  package func assetUpload(number: Int64) throws(SyncFailure) -> AssetUploadRow? {
    try read { (connection) throws(SQLiteError) in
      try connection.first("SELECT \(Self.uploadColumns) FROM asset_upload WHERE number = ?1", [.integer(number)], Self.upload)
    }
  }

  /// All uploads, oldest first; those that are neither ready nor abandoned where only open ones are asked for.
  package func assetUploads(openOnly: Bool) throws(SyncFailure) -> [AssetUploadRow] {
    try read { (connection) throws(SQLiteError) in
      try connection.query(
        "SELECT \(Self.uploadColumns) FROM asset_upload\(openOnly ? " INDEXED BY asset_upload_one_open WHERE state = 'pending'" : "") ORDER BY number",
        [], Self.upload)
    }
  }

  /// The components of an upload, sorted by the bytes of their names.
  package func assetUploadComponents(of number: Int64) throws(SyncFailure) -> [AssetUploadComponentRow] {
    try read { (connection) throws(SQLiteError) in try Self.components(connection, of: number) }
  }

  /// Stores the digests of files that were hashed before the registration.
  package func setAssetDigests(_ number: Int64, _ digests: [(name: String, digest: ContentDigest)]) throws(SyncFailure) {
    try changeUpload(number) { (connection, now) throws(SQLiteError) in
      for (name, digest) in digests {
        try connection.run(
          """
          UPDATE asset_upload_component SET digest = ?3, updated_at = ?4 WHERE upload = ?1 AND name = ?2 AND state <> 'completed'
          """, [.integer(number), .text(name), .blob(digest.bytes), .real(now)])
      }
    }
  }

  /// Stores what the service calls the asset.
  /// - Throws: `SyncFailure` of kind `remote_conflict` where another name is on record.
  package func setAssetID(_ number: Int64, _ id: String) throws(SyncFailure) {
    try changeUpload(number) { (connection, now) throws(SQLiteError) in
      try connection.run(
        "UPDATE asset_upload SET asset_id = ?2, updated_at = ?3 WHERE number = ?1 AND (asset_id IS NULL OR asset_id = ?2)",
        [.integer(number), .text(id), .real(now)])
    }
    if try assetUpload(number: number)?.assetID?.utf8.elementsEqual(id.utf8) != true {
      throw SyncFailure(
        .remoteConflict, "the service gave the asset another name than before",
        hint: "It does not honour idempotency keys; look at its log for two registrations.")
    }
  }

  /// A component is about to be sent, or has to be sent again.
  package func setAssetComponent(_ number: Int64, name: String, state: AssetUploadComponentRow.State) throws(SyncFailure) {
    try changeUpload(number) { (connection, now) throws(SQLiteError) in
      try connection.run(
        "UPDATE asset_upload_component SET state = ?3, updated_at = ?4 WHERE upload = ?1 AND name = ?2 AND state <> 'completed'",
        [.integer(number), .text(name), .text(state.rawValue), .real(now)])
    }
  }

  /// A component is at the store, as far as the store says.
  package func completeAssetComponent(
    _ number: Int64, name: String, digest: ContentDigest, etag: String?, provenByStore: Bool
  ) throws(SyncFailure) {
    try changeUpload(number) { (connection, now) throws(SQLiteError) in
      try connection.run(
        """
        UPDATE asset_upload_component SET state = 'completed', digest = ?3, etag = ?4, evidence = ?5, updated_at = ?6
        WHERE upload = ?1 AND name = ?2
        """,
        [
          .integer(number), .text(name), .blob(digest.bytes), .optional(etag), .text(provenByStore ? "store" : "none"), .real(now),
        ])
    }
  }

  /// Notes a failure, and when the next attempt may be made.
  package func noteAssetFailure(_ number: Int64, _ failure: SyncFailure, attempts: Int, nextAttemptAt: Double?) throws(SyncFailure) {
    try changeUpload(number) { (connection, now) throws(SQLiteError) in
      try connection.run(
        """
        UPDATE asset_upload SET attempts = ?2, next_attempt_at = ?3, error_kind = ?4, error_message = ?5, error_retry = ?6, error_hint = ?7,
          updated_at = ?8 WHERE number = ?1
        """,
        [
          .integer(number), .integer(Int64(attempts)), .optional(nextAttemptAt), .text(failure.kind.rawValue), .text(failure.message),
          .integer(failure.retry ? 1 : 0), .text(failure.hint), .real(now),
        ])
    }
  }

  /// The service said that the asset is ready and ours.
  /// - Throws: `SyncFailure` where a component is not completed: an asset is never finished vacuously.
  package func finishAssetUpload(_ number: Int64) throws(SyncFailure) {
    let complete = try assetUploadComponents(of: number)
    guard !complete.isEmpty, complete.allSatisfy({ $0.state == .completed }) else {
      throw SyncFailure(.local, "an asset with missing components cannot be ready", hint: "Report this with the queue file.", retry: false)
    }
    try changeUpload(number) { (connection, now) throws(SQLiteError) in
      try connection.run(
        """
        UPDATE asset_upload SET state = 'ready', attempts = 0, next_attempt_at = NULL, error_kind = NULL, error_message = NULL,
          error_retry = NULL, error_hint = NULL, updated_at = ?2 WHERE number = ?1
        """, [.integer(number), .real(now)])
    }
  }

  /// The upload will never be finished; the next call with the same files makes a new one.
  package func abandonAssetUpload(_ number: Int64, because failure: SyncFailure) throws(SyncFailure) {
    try changeUpload(number) { (connection, now) throws(SQLiteError) in
      try connection.run(
        """
        UPDATE asset_upload SET state = 'abandoned', next_attempt_at = NULL, error_kind = ?2, error_message = ?3, error_retry = ?4,
          error_hint = ?5, updated_at = ?6 WHERE number = ?1
        """,
        [
          .integer(number), .text(failure.kind.rawValue), .text(failure.message), .integer(failure.retry ? 1 : 0), .text(failure.hint),
          .real(now),
        ])
    }
  }

  /// One transaction on an upload that is still open.
  private func changeUpload(
    _ number: Int64, _ body: (Connection, Double) throws(SQLiteError) -> Void
  ) throws(SyncFailure) {
    let now = clock.wallSeconds
    try write { (connection) throws(QueueError) in
      let state: String?
      do throws(SQLiteError) {
        state = try connection.first("SELECT state FROM asset_upload WHERE number = ?1", [.integer(number)]) { $0.text(0) }
        if state == "pending" { try body(connection, now) }
      } catch { throw .sqlite(error) }
      guard state == "pending" else {
        throw .failure(
          SyncFailure(
            .local, "the upload \(number) is \(state ?? "unknown") and not open any more",
            hint: "Another process finished or abandoned it; look at its state.", retry: false))
      }
    }
  }

  // MARK: - Rows

  private static let uploadColumns = """
    number, identity, service, type, idempotency_key, asset_id, state, attempts, next_attempt_at, error_kind, error_message, error_retry,
    error_hint, created_at, updated_at
    """

  private static func upload(_ row: Row) throws(SQLiteError) -> AssetUploadRow {
    guard let identity = ContentDigest(bytes: row.blob(1)), let state = AssetUploadRow.State(rawValue: row.text(6)) else {
      throw .corrupt("an asset's upload makes no sense")
    }
    let failure = row.optionalText(9).map {
      SyncFailure(SyncFailure.Kind(rawValue: $0) ?? .protocol, row.text(10), hint: row.text(12), retry: row.integer(11) != 0)
    }
    return AssetUploadRow(
      number: row.integer(0), identity: identity, service: row.text(2), type: row.text(3), idempotencyKey: row.text(4),
      assetID: row.optionalText(5), state: state, attempts: Int(row.integer(7)), nextAttemptAt: row.optionalReal(8), lastError: failure,
      createdAt: row.real(13), updatedAt: row.real(14))
  }

  private static func components(_ connection: Connection, of number: Int64) throws(SQLiteError) -> [AssetUploadComponentRow] {
    try connection.query(
      """
      SELECT name, local_path, content_type, device, inode, size, modified, changed, mode, state, digest, etag, evidence
      FROM asset_upload_component WHERE upload = ?1 ORDER BY name
      """, [.integer(number)]
    ) { (row) throws(SQLiteError) in
      var component = AssetUploadComponentRow(
        name: row.text(0), localPath: row.text(1), contentType: row.text(2),
        fingerprint: FileFingerprint(
          device: UInt64(bitPattern: row.integer(3)), inode: UInt64(bitPattern: row.integer(4)), size: row.size(5),
          modified: row.integer(6), changed: row.integer(7), mode: UInt32(truncatingIfNeeded: row.integer(8))))
      guard let state = AssetUploadComponentRow.State(rawValue: row.text(9)) else {
        throw .corrupt("an asset's component has the state `\(row.text(9))`")
      }
      component.state = state
      component.digest = row.optionalBlob(10).flatMap { ContentDigest(bytes: $0) }
      component.etag = row.optionalText(11)
      component.provenByStore = row.text(12) == "store"
      return component
    }
  }
}
