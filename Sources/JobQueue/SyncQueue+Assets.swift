import SQLite
import SyncModel

/// Storage of `UploadTracker`: assets and their components, beside the jobs in the same file.
extension SyncQueue {
  /// One component of an asset.
  package struct AssetComponent: Hashable, Sendable {
    package let assetID: String
    package let assetType: String
    package let name: String
    package let localPath: String
    /// Bytes, where the producer said.
    package let size: UInt64?
    package let state: String
    /// Wall clock, seconds since 1970.
    package let createdAt: Double
  }

  /// Registers components of an asset in one transaction: all of them or none. A component that is known keeps its state unless its
  /// path or size differs, which makes it pending again.
  package func registerComponents(
    asset: String, type: String?, components: [(name: String, localPath: String, size: UInt64?)]
  ) throws(SyncFailure) {
    let now = clock.wallSeconds
    try write { (connection) throws(QueueError) in
      do throws(SQLiteError) {
        try connection.run(
          "INSERT INTO asset (id, type, created_at) VALUES (?1, coalesce(?2, 'unknown'), ?3) ON CONFLICT (id) DO UPDATE SET type = coalesce(?2, type)",
          [.text(asset), .optional(type), .real(now)])
        let number = try connection.first("SELECT number FROM asset WHERE id = ?1", [.text(asset)]) { $0.integer(0) } ?? 0
        for component in components {
          try connection.run(
            """
            INSERT INTO asset_component (asset, name, local_path, size, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
            ON CONFLICT (asset, name) DO UPDATE SET
              state = CASE WHEN local_path = excluded.local_path AND size IS excluded.size THEN state ELSE 'pending' END,
              local_path = excluded.local_path, size = excluded.size, updated_at = excluded.updated_at
            """,
            [
              .integer(number), .text(component.name), .text(component.localPath), .optional(component.size.map { Int64(clamping: $0) }),
              .real(now),
            ])
        }
      } catch { throw .sqlite(error) }
    }
  }

  /// Sets a component's state.
  /// - Throws: `SyncFailure` of kind `misconfigured` where no such component is registered.
  package func setComponent(asset: String, name: String, state: String, detail: String?) throws(SyncFailure) {
    let now = clock.wallSeconds
    try write { (connection) throws(QueueError) in
      let changed: Int
      do throws(SQLiteError) {
        changed = try connection.run(
          """
          UPDATE asset_component SET state = ?3, detail = ?4, updated_at = ?5
          WHERE name = ?2 AND asset = (SELECT number FROM asset WHERE id = ?1)
          """, [.text(asset), .text(name), .text(state), .optional(detail), .real(now)])
      } catch { throw .sqlite(error) }
      guard changed == 1 else {
        throw .failure(
          SyncFailure(
            .misconfigured, "asset \(displayText(asset)) has no component \(displayText(name))",
            hint: "Register all components of the asset first, in one call."))
      }
    }
  }

  /// Components that are not completed, oldest asset first; of one asset where it is named.
  package func incompleteComponents(asset: String? = nil) throws(SyncFailure) -> [AssetComponent] {
    try read { (connection) throws(SQLiteError) in
      try connection.query(
        """
        SELECT a.id, a.type, c.name, c.local_path, c.size, c.state, c.created_at FROM asset_component AS c INDEXED BY asset_component_incomplete
          \(asset == nil ? "CROSS JOIN" : "JOIN") asset AS a ON a.number = c.asset
        WHERE c.state <> 'completed'\(asset == nil ? "" : " AND a.id = ?1") ORDER BY a.number, c.name
        """, asset.map { [.text($0)] } ?? [], Self.component)
    }
  }

  /// All components of an asset, by name.
  package func components(ofAsset asset: String) throws(SyncFailure) -> [AssetComponent] {
    try read { (connection) throws(SQLiteError) in
      try connection.query(
        """
        SELECT a.id, a.type, c.name, c.local_path, c.size, c.state, c.created_at FROM asset_component AS c JOIN asset AS a ON a.number = c.asset
        WHERE a.id = ?1 ORDER BY c.name
        """, [.text(asset)], Self.component)
    }
  }

  /// A component's path of the newest asset of a type: the one registered last.
  package func latestPath(assetType: String) throws(SyncFailure) -> String? {
    try read { (connection) throws(SQLiteError) in
      try connection.first(
        """
        SELECT c.local_path FROM asset AS a JOIN asset_component AS c ON c.asset = a.number
        WHERE a.type = ?1 ORDER BY a.number DESC, c.name LIMIT 1
        """, [.text(assetType)]
      ) { $0.text(0) }
    }
  }

  /// Whether any asset has been registered.
  package func hasAssets() throws(SyncFailure) -> Bool {
    try read { (connection) throws(SQLiteError) in
      try connection.first("SELECT EXISTS (SELECT 1 FROM asset)") { $0.integer(0) != 0 } ?? false
    }
  }

  private static func component(_ row: Row) throws(SQLiteError) -> AssetComponent {
    AssetComponent(
      assetID: row.text(0), assetType: row.text(1), name: row.text(2), localPath: row.text(3),
      size: row.optionalInteger(4).map { UInt64(max(0, $0)) }, state: row.text(5), createdAt: row.real(6))
  }
}
