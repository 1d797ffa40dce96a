import Digests
import JobQueue
import SyncModel
import Transport
import Verification

/// What travels beside a run's components.
struct RunDocuments: Sendable {
  let manifest: [UInt8]
  let manifestDigest: ContentDigest
  let receipt: [UInt8]
  let receiptDigest: ContentDigest
  /// The record with `sync_status: "synced"`; nil for a run without one.
  let record: [UInt8]?
  /// Entries of the record's list of overrides.
  let ledgerLength: Int
}

/// Puts a proven run where readers look: one rename of the staging folder, or, where the run is there already, file by file with the
/// manifest last.
struct RunPublisher: Sendable {
  let pool: SessionPool
  let layout: RemoteLayout
  let components: [ComponentRow]
  /// Set where the run is there already and something of it is wrong.
  var repair: Repair?

  /// How room is made for what is put right: nothing is overwritten, what is wrong is moved into a hidden folder beside the run.
  struct Repair: Sendable {
    let jobID: String
    /// The files that this program published there, by their digests.
    let published: [RelativePath: ContentDigest]
    /// The manifest and the receipt that lay beside them.
    let documents: [RelativePath: ContentDigest]
    /// Told what is about to be moved, and where to, before the first of it is.
    let announce: @Sendable ([RelativePath], RemotePath) async throws(TransportError) -> Void

    /// Whether a component is what was published, so that what lies in its place is not.
    func covers(_ row: ComponentRow) -> Bool {
      switch row.entry.kind {
      case .file: row.localDigest != nil && published[row.entry.path] == row.localDigest
      case .folder, .symlink: true
      case .special: false
      }
    }
  }

  private func files(_ documents: RunDocuments) -> [(RelativePath, [UInt8])] {
    var list: [(RelativePath, [UInt8])] = []
    if let record = documents.record { list.append((layout.record, record)) }
    list.append((layout.receipt, documents.receipt))
    // The manifest last: in a folder that is visible already it is what says that all is there.
    list.append((layout.manifest, documents.manifest))
    return list
  }

  /// Writes the documents into the staging folder and reads them back.
  func stage(_ documents: RunDocuments) async throws(TransportError) {
    if layout.inPlace { return }
    try await pool.withSession(width: 1) { (session) throws(TransportError) in
      try await session.makeFolder(layout.staging.appending(layout.metadata))
      // Folder times last: every file written into a folder has changed them. Setting one changes no other.
      let folders = session.capabilities.keepsTimes ? components.filter { $0.entry.kind == .folder && $0.state != .adopted } : []
      do {
        async let dated: Void = setTimes(of: folders.filter { $0.entry.path != layout.metadata }, session)
        // Nobody sees the staging folder: here their order does not matter.
        try await Turn.each(of: files(documents), atOnce: 3) { (path, content) throws(TransportError) in
          let remote = layout.staging.appending(path)
          try await Self.write(content, to: remote, session: session)
          try await Self.requireWritten(content, at: remote, session: session)
        }
        try await dated
      } catch { throw TransportError.wrapping(error) }
      try await setTimes(of: folders.filter { $0.entry.path == layout.metadata }, session)
    }
  }

  private func setTimes(of folders: [ComponentRow], _ session: any TransportSession) async throws(TransportError) {
    try await Turn.each(of: folders, atOnce: 64) { (row) throws(TransportError) in
      do throws(TransportError) {
        try await session.setModified(layout.staging.appending(row.entry.path), to: seconds(row.entry.fingerprint.modified))
      } catch {
        switch error {
        // Published by an earlier attempt already, its time was set then; or files keep their times there and folders do not: `check` says
        // so, and the receipt's run is none the worse.
        case .notFound, .unsupported: return
        default: throw error
        }
      }
    }
  }

  private static func requireWritten(
    _ content: [UInt8], at path: RemotePath, session: any TransportSession
  ) async throws(TransportError) {
    guard try await readSmall(path, limit: content.count + 1, session: session) == content else {
      throw .failure(
        SyncFailure(
          .hashMismatch, "\(path) reads back differently from what was written",
          hint: "It is tried again; check the NAS's disks if it repeats."),
        sessionLost: false)
    }
  }

  private static func write(_ content: [UInt8], to path: RemotePath, session: any TransportSession) async throws(TransportError) {
    if content.count <= session.capabilities.preferredWriteSize {
      try await session.put(content, at: path, modified: nil, mode: nil, durable: true)
      return
    }
    let handle = try await session.beginUpload(path, resumingAt: 0, size: UInt64(content.count), modified: nil)
    do throws(TransportError) {
      var offset = 0
      while offset < content.count {
        let end = min(offset + session.capabilities.preferredWriteSize, content.count)
        try await session.write(Array(content[offset..<end]), at: UInt64(offset), to: handle)
        offset = end
      }
      try await session.finishUpload(handle, modified: nil, mode: nil, durable: true)
    } catch {
      await session.abandonUpload(handle)
      throw error
    }
  }

  /// Makes the run visible.
  /// - Parameter isEqual: Asked about a name that is taken: whether what is there has this digest.
  func publish(
    _ documents: RunDocuments,
    isEqual: @Sendable @escaping (RemotePath, ContentDigest) async throws(TransportError) -> Bool
  ) async throws(TransportError) {
    if layout.inPlace { return try await publishInPlace(documents) }
    let merged = try await pool.withSession(width: 1) { (session) throws(TransportError) -> Bool in
      do throws(TransportError) {
        try await session.publish(layout.staging, as: layout.final)
        return false
      } catch {
        if case .alreadyExists = error { return true }
        throw error
      }
    }
    if merged {
      try await merge(documents, isEqual: isEqual)
    } else if components.contains(where: { $0.state == .adopted && $0.entry.kind != .folder }) {
      // Some of it lay there already, and the place was free a moment ago.
      try await requireAllThere()
    }
  }

  /// Where nothing can be renamed: everything is in its place, and the manifest, written last, says so.
  private func publishInPlace(_ documents: RunDocuments) async throws(TransportError) {
    try await requireAllThere()
    if repair != nil {
      var wrong: Set<RelativePath> = []
      for (path, content) in files(documents) where try await !isOurs(path, content, known: repair?.documents[path]) { wrong.insert(path) }
      try await makeRoom(for: wrong)
    }
    try await pool.withSession(width: 1) { (session) throws(TransportError) in
      try await session.makeFolder(layout.final.appending(layout.metadata))
      for (path, content) in files(documents) where path != layout.manifest {
        let remote = layout.final.appending(path)
        try await Self.write(content, to: remote, session: session)
        try await Self.requireWritten(content, at: remote, session: session)
      }
      let manifest = layout.final.appending(layout.manifest)
      // One that is there was looked at when the new one was made, and is the published one or this job's own.
      guard try await session.entry(at: manifest) == nil else {
        return try await Self.write(documents.manifest, to: manifest, session: session)
      }
      do throws(TransportError) { try await session.putNew(documents.manifest, at: manifest) } catch {
        guard case .alreadyExists = error else { throw error }
        throw .failure(
          SyncFailure(
            .remoteConflict, "\(manifest) appeared on the NAS while the run was being sent",
            hint: "Somebody else publishes a run of this path. Nothing of theirs was overwritten; compare the two, then `nassync retry`."),
          sessionLost: false)
      }
    }
  }

  /// The run is published: nobody needs to be kept out any more.
  func releaseClaim() async throws(TransportError) {
    guard layout.inPlace else { return }
    try await pool.withSession(width: 1) { (session) throws(TransportError) in try await session.removeFile(layout.claim) }
  }

  private func merge(
    _ documents: RunDocuments, isEqual: @Sendable (RemotePath, ContentDigest) async throws(TransportError) -> Bool
  ) async throws(TransportError) {
    let (staged, there) = try await pool.withSession(width: 1) { (session) throws(TransportError) in
      (
        try await RemoteTree.walk(layout.staging, session: session)?.entries ?? [:],
        try await RemoteTree.walk(layout.final, session: session)?.entries ?? [:]
      )
    }
    let waiting = components.filter { $0.entry.kind != .folder && staged[$0.entry.path] != nil }
    // All that is there already is compared before anything is added: a folder that is no copy of the run stays as it is.
    var wrong: Set<RelativePath> = []
    for row in waiting {
      guard let found = there[row.entry.path] else { continue }
      if let repair, repair.covers(row) {
        if try await !self.isEqual(row, to: found, isEqual) { wrong.insert(row.entry.path) }
      } else {
        try await requireEqual(row, isEqual)
      }
    }
    let aside = try await prepareRepair(documents, there: there, wrong: &wrong)
    for row in components where row.entry.kind == .folder {
      if wrong.contains(row.entry.path) { try await moveAside(row.entry.path, to: aside) }
      try await pool.withSession(width: 1) { (session) throws(TransportError) in
        try await session.makeFolder(layout.final.appending(row.entry.path))
      }
    }
    for row in waiting where there[row.entry.path] == nil || wrong.contains(row.entry.path) {
      if wrong.contains(row.entry.path) { try await moveAside(row.entry.path, to: aside) }
      let taken = try await pool.withSession(width: 1) { (session) throws(TransportError) -> Bool in
        do throws(TransportError) {
          try await session.publish(layout.staging.appending(row.entry.path), as: layout.final.appending(row.entry.path))
        } catch {
          if case .alreadyExists = error { return true }
          throw error
        }
        return false
      }
      if taken { try await requireEqual(row, isEqual) }
    }
    try await requireAllThere()
    for (path, _) in files(documents) where wrong.contains(path) { try await moveAside(path, to: aside) }
    try await pool.withSession(width: 1) { (session) throws(TransportError) in
      try await session.makeFolder(layout.final.appending(layout.metadata))
      for (path, _) in files(documents) {
        try await session.replace(layout.staging.appending(path), over: layout.final.appending(path))
      }
      try await session.removeTree(layout.staging)
    }
  }

  /// The last look before the manifest says that all is there and the staging folder goes: every component is in its place.
  private func requireAllThere() async throws(TransportError) {
    let there = try await pool.withSession(width: 1) { (session) throws(TransportError) in
      try await RemoteTree.walk(layout.final, session: session)?.entries ?? [:]
    }
    for row in components {
      let found = there[row.entry.path]
      let isThere =
        switch row.entry.kind {
        case .file, .special: found?.kind == .file && found?.size == row.entry.fingerprint.size
        case .folder: found?.kind == .folder
        case .symlink: found?.kind == .symlink
        }
      guard isThere else {
        throw .failure(
          SyncFailure(
            .protocol, "\(layout.final.appending(row.entry.path)) is not there although it was published",
            hint: "Look at who else writes to this folder on the NAS; the run is proven anew, and what is missing is sent again."),
          sessionLost: false)
      }
    }
  }

  /// A component that somebody else put in its place is ours too where it is equal.
  private func requireEqual(
    _ row: ComponentRow, _ isEqual: @Sendable (RemotePath, ContentDigest) async throws(TransportError) -> Bool
  ) async throws(TransportError) {
    let final = layout.final.appending(row.entry.path)
    let found = try await pool.withSession(width: 1) { (session) throws(TransportError) in try await session.entry(at: final) }
    guard try await self.isEqual(row, to: found, isEqual) else {
      throw .failure(
        SyncFailure(
          .remoteConflict, "\(final) appeared on the NAS with another content while the run was being sent",
          hint: "Nothing was overwritten. Compare the two, move the NAS copy away, then `nassync retry`."), sessionLost: false)
    }
  }

  /// Whether what a listing said is in a component's place is that component.
  private func isEqual(
    _ row: ComponentRow, to found: RemoteEntry?, _ isEqual: @Sendable (RemotePath, ContentDigest) async throws(TransportError) -> Bool
  ) async throws(TransportError) -> Bool {
    let final = layout.final.appending(row.entry.path)
    switch (row.entry.kind, found?.kind) {
    case (.file, .file?):
      guard let digest = row.localDigest else { return false }
      return try await isEqual(final, digest)
    case (.symlink(let target), .symlink?):
      return try await pool.withSession(width: 1) { (session) throws(TransportError) in
        try await session.symlinkTarget(of: final) == target
      }
    default: return false
    }
  }

  // MARK: - Repairs

  /// Adds what else is wrong, a folder's place or a document, and says where all of it goes.
  /// - Returns: The folder to move it to: one that nothing is in.
  private func prepareRepair(
    _ documents: RunDocuments, there: [RelativePath: RemoteEntry], wrong: inout Set<RelativePath>
  ) async throws(TransportError) -> RemotePath? {
    guard let repair else { return nil }
    for row in components where row.entry.kind == .folder {
      if let found = there[row.entry.path], found.kind != .folder { wrong.insert(row.entry.path) }
    }
    for (path, content) in files(documents) {
      guard let found = there[path] else { continue }
      if found.kind == .file, try await isOurs(path, content, known: repair.documents[path]) { continue }
      wrong.insert(path)
    }
    return try await asidePlace(for: wrong, repair)
  }

  /// Moves what is wrong aside, and says so first.
  func makeRoom(for wrong: Set<RelativePath>) async throws(TransportError) {
    guard let repair, let place = try await asidePlace(for: wrong, repair) else { return }
    for path in wrong.sorted() { try await moveAside(path, to: place) }
  }

  private func asidePlace(for wrong: Set<RelativePath>, _ repair: Repair) async throws(TransportError) -> RemotePath? {
    guard !wrong.isEmpty else { return nil }
    let place = try await pool.withSession(width: 1) { (session) throws(TransportError) -> RemotePath in
      for number in 1...1_000 {
        let place = layout.replaced(byJob: repair.jobID, number: number)
        if try await session.entry(at: place) == nil { return place }
      }
      throw .failure(
        SyncFailure(
          .remoteConflict, "there are a thousand folders \(layout.replaced(byJob: repair.jobID, number: 1)) on the NAS",
          hint: "Look at what was moved aside there and remove it, then `nassync retry`."), sessionLost: false)
    }
    try await repair.announce(wrong.sorted(), place)
    return place
  }

  /// Whether a document there is the one that was published, or the very one that is about to be.
  private func isOurs(_ path: RelativePath, _ content: [UInt8], known: ContentDigest?) async throws(TransportError) -> Bool {
    // An earlier one was not much longer: a manifest is only ever extended.
    let limit = RemoteDocument.limit([RelativePath]()) + 2 * content.count
    let document = try await pool.withSession(width: 1) { (session) throws(TransportError) in
      try await RemoteDocument.read(layout.final.appending(path), limit: limit, session: session)
    }
    switch document {
    case .missing: return true
    case .tooLong: return false
    case .whole(let found): return found == content || (known != nil && SHA256Hasher.digest(of: found) == known)
    }
  }

  /// Moves what is wrong out of the way by a rename that replaces nothing. What is gone by itself meanwhile is fine.
  private func moveAside(_ path: RelativePath, to place: RemotePath?) async throws(TransportError) {
    guard let place else { return }
    let target = place.appending(path)
    try await pool.withSession(width: 1) { (session) throws(TransportError) in
      if layout.inPlace, try await session.entry(at: layout.final.appending(path))?.kind == .folder {
        return try await moveFolderAside(layout.final.appending(path), to: target, session: session)
      }
      if let parent = target.parent { try await session.makeFolder(parent) }
      do throws(TransportError) { try await session.publish(layout.final.appending(path), as: target) } catch {
        guard case .notFound = error else { throw error }
      }
    }
  }

  /// File by file, where folders cannot be renamed.
  private func moveFolderAside(
    _ folder: RemotePath, to target: RemotePath, session: any TransportSession
  ) async throws(TransportError) {
    for (path, found) in try await RemoteTree.walk(folder, session: session)?.entries ?? [:] where found.kind != .folder {
      let place = target.appending(path)
      if let parent = place.parent { try await session.makeFolder(parent) }
      do throws(TransportError) { try await session.publish(folder.appending(path), as: place) } catch {
        guard case .notFound = error else { throw error }
      }
    }
    // Nothing but empty folders is left, or what somebody else has just put there.
    let left = try await RemoteTree.walk(folder, session: session)?.entries.values.contains { $0.kind != .folder } ?? false
    if !left { try await session.removeTree(folder) }
  }

  /// Looks once more at the published place: the manifest there is ours, byte for byte.
  func confirm(_ documents: RunDocuments) async throws(TransportError) {
    try await pool.withSession(width: 1) { (session) throws(TransportError) in
      let path = layout.final.appending(layout.manifest)
      guard try await Self.readSmall(path, limit: documents.manifest.count + 1, session: session) == documents.manifest else {
        throw .failure(
          SyncFailure(
            .protocol, "the NAS said that it published \(layout.final), but the manifest there is not ours",
            hint: "Look at the folder on the NAS; the job stays unverified and is tried again."), sessionLost: false)
      }
    }
  }

  /// A whole file of at most `limit` bytes; nil where it is not there.
  static func readSmall(_ path: RemotePath, limit: Int, session: any TransportSession) async throws(TransportError) -> [UInt8]? {
    switch try await RemoteDocument.read(path, limit: limit, session: session) {
    case .missing: return nil
    case .whole(let content): return content
    case .tooLong:
      throw .failure(
        SyncFailure(
          .protocol, "\(path) on the NAS is larger than the \(limit) bytes it may have",
          hint: "Look at the file on the NAS; it is not what this program wrote."), sessionLost: false)
    }
  }
}
