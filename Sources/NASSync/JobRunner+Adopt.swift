import Intake
import JobQueue
import Synchronization
import SyncModel
import Transport
import Verification

extension JobRunner {
  /// Makes the staging folder and clears it of what this snapshot does not have.
  /// - Parameters:
  ///   - tree: What lies in it; nil where it is not there.
  ///   - components: The run's, with what was adopted.
  ///   - changed: Components that are no longer what an earlier attempt sent.
  /// - Returns: What an earlier attempt left there that is still of use.
  func prepareStaging(
    layout: RemoteLayout, tree: RemoteTree?, components: [ComponentRow], changed: [RelativePath]
  ) async throws(StepFailure) -> [RelativePath: RemoteEntry] {
    do {
      return try await route.pool.withSession(width: 1) { (session) throws(TransportError) in
        let marks = components.compactMap { row in
          row.state == .pending ? row.uploadToken.map { UploadMark(bytes: row.bytesDurable, token: $0) } : nil
        }
        try await session.discardUploads(under: layout.staging, except: marks)
        // Nothing is staged, and what lies in its place was looked at when it was adopted.
        if layout.inPlace { return [:] }
        var staged = tree?.entries ?? [:]
        try await Self.clear(&staged, of: components, changed: Set(changed), layout: layout, session: session)
        // With the folder for manifest and receipt in it, which are then written at once.
        try await session.makeFolder(layout.staging.appending(layout.metadata))
        return staged
      }
    } catch { throw StepFailure(error) }
  }

  /// Removes what the snapshot does not have, or has as another kind of thing, or what has changed here since it was sent: a leftover of an
  /// earlier state of the run must neither be published nor be resumed. Size and time in a listing do not tell every change.
  private static func clear(
    _ staged: inout [RelativePath: RemoteEntry], of components: [ComponentRow], changed: Set<RelativePath>, layout: RemoteLayout,
    session: any TransportSession
  ) async throws(TransportError) {
    guard !staged.isEmpty else { return }
    var wanted: [RelativePath: ComponentRow] = [:]
    for row in components { wanted[row.entry.path] = row }
    // Deepest first, so that a folder is empty of files of its own when its turn comes.
    // The folder for manifest and receipt may be no component. A link in its place would take what is written there somewhere else.
    for (path, found) in staged.sorted(by: { $1.key < $0.key }) where path != layout.metadata || found.kind != .folder {
      let keep: Bool
      switch wanted[path]?.entry.kind {
      case .file?: keep = found.kind == .file && !changed.contains(path)
      case .folder?: keep = found.kind == .folder
      // A link is one request to make again, and one that points elsewhere would stand in its way.
      case .symlink?: keep = found.kind == .symlink && wanted[path]?.state != .pending
      case .special?, nil: keep = false
      }
      if keep { continue }
      if found.kind == .folder {
        try await session.removeTree(layout.staging.appending(path))
        staged = staged.filter { !$0.key.isWithin(path) }
      } else {
        try await session.removeFile(layout.staging.appending(path))
        staged[path] = nil
      }
    }
  }

  /// Compares a run that is on the NAS already: equal things are adopted, missing ones stay to be sent, a differing one is a conflict and
  /// nothing is overwritten. Where the job puts right what this program published there itself, a differing one stays to be sent.
  /// - Returns: The components with what was adopted, and what the NAS's copies of it were found to hold.
  func adopt(
    _ job: JobRow, _ components: [ComponentRow], layout: RemoteLayout, tree: RemoteTree?, folder: RunFolder, record: [UInt8]?,
    ground: RepairGround?
  ) async throws(StepFailure) -> (rows: [ComponentRow], digests: AdoptedDigests) {
    var rows = components
    var digestsThere = AdoptedDigests(clock: environment.clock)
    guard let tree else {
      // What an earlier attempt adopted is gone from the NAS: it is sent.
      for index in rows.indices { rows.isNotThere(index, published: ground != nil, inPlace: layout.inPlace) }
      if layout.inPlace { try await claim(job, layout: layout, found: [], tree: nil) }
      return (rows, digestsThere)
    }
    let possession = layout.inPlace ? try await possession(job, layout: layout, tree: tree) : nil

    // A damaged record there does not make the run another one where the queue knows that it was published.
    try await refuseAnotherRun(job, layout: layout, tree: tree, record: ground == nil ? record : nil)
    var conflicts: [String] = []
    var repaired: [String] = []
    var wrong: Set<RelativePath> = []
    func conflict(_ index: Int, local: ContentDigest?, _ what: String) {
      let text = "\(rows[index].entry.path) (\(what))"
      guard let ground, ground.mayReplace(rows[index].entry, local: local) else { return conflicts.append(text) }
      repaired.append(text)
      rows.isNotThere(index, published: true, inPlace: layout.inPlace)
      wrong.insert(rows[index].entry.path)
    }
    var toCompare: [(index: Int, remote: RemotePath)] = []
    var adopted: [ComponentProgress] = []
    for index in rows.indices {
      let entry = rows[index].entry
      guard let found = tree.entries[entry.path] else {
        // It was there in an earlier attempt and is gone: it is sent.
        if rows[index].state == .verified, rows[index].entry.kind == .file { repaired.append("\(entry.path) (missing there)") }
        rows.isNotThere(index, published: ground != nil, inPlace: layout.inPlace)
        continue
      }
      if let possession, possession.isOwn(entry.path), entry.kind == .file, found.kind == .file {
        // Sent by this very job and not published yet: the proof will look at it, and what is not whole is sent over it.
        if rows[index].state != .sent || found.size != entry.fingerprint.size {
          rows.isNotThere(index, published: false, inPlace: true)
        }
        continue
      }
      switch (entry.kind, found.kind) {
      case (.folder, .folder):
        adopted.append(ComponentProgress(path: entry.path, state: .adopted, bytesDurable: 0, localDigest: nil))
        rows[index].state = .adopted
      case (.file, .file):
        if found.size == entry.fingerprint.size {
          toCompare.append((index, layout.final.appending(entry.path)))
        } else {
          conflict(index, local: nil, "\(found.size) bytes there, \(entry.fingerprint.size) here")
        }
      case (.symlink(let target), .symlink):
        if try await linkTarget(layout.final.appending(entry.path)) == target {
          adopted.append(ComponentProgress(path: entry.path, state: .adopted, bytesDurable: 0, localDigest: nil))
          rows[index].state = .adopted
        } else {
          conflict(index, local: nil, "a link that points elsewhere")
        }
      default: conflict(index, local: nil, "a \(found.kind.rawValue) there")
      }
    }
    let sizes = Dictionary(toCompare.map { ($0.remote, rows[$0.index].entry.fingerprint.size) }) { $1 }
    let entries = toCompare.map { rows[$0.index].entry }
    // Both sides hash at the same time.
    async let hashedHere = Self.attempted { () async throws(StepFailure) in try await localDigests(of: entries, in: folder, ground) }
    let digests = try await remoteDigests(toCompare.map(\.remote), sizes: sizes)
    for ((index, remote), local) in zip(toCompare, try await hashedHere.get()) {
      let entry = rows[index].entry
      guard case .digest(let found, let evidence)? = digests[remote] else {
        conflict(index, local: local, "it cannot be read there")
        continue
      }
      if found == local {
        if !layout.inPlace {
          digestsThere.add(entry.path, VerifiedReceipt.Proof(digest: found, evidence: evidence), tree.entries[entry.path])
        }
        adopted.append(
          ComponentProgress(path: entry.path, state: .adopted, bytesDurable: entry.fingerprint.size, localDigest: local))
        rows[index].state = .adopted
        rows[index].localDigest = local
        rows[index].bytesDurable = entry.fingerprint.size
      } else {
        conflict(index, local: local, "another content")
      }
    }
    guard conflicts.isEmpty else {
      let shown = conflicts.prefix(5).joined(separator: ", ") + (conflicts.count > 5 ? " and \(conflicts.count - 5) more" : "")
      throw StepFailure(
        SyncFailure(
          .remoteConflict, "\(layout.final) exists on the NAS and differs: \(shown)",
          hint: "Nothing was overwritten. Compare the two, move the NAS copy away or repair the run, then `nassync retry`."))
    }
    let progress = adopted
    try await queued { () async throws(SyncFailure) in
      try await environment.queue.checkpoint(job, worker: environment.worker, progress)
      let files = progress.count { $0.localDigest != nil }
      try await environment.queue.note(
        job, event: "adopted", detail: "\(layout.final) exists on the NAS: \(files) equal files adopted, the rest is added")
      if !repaired.isEmpty {
        let shown = repaired.prefix(5).joined(separator: ", ") + (repaired.count > 5 ? " and \(repaired.count - 5) more" : "")
        try await environment.queue.note(job, event: "repairing", detail: "sent again from here, as they were published: \(shown)")
      }
    }
    if let possession {
      if !possession.isOurs {
        try await claim(job, layout: layout, found: rows.map(\.entry.path).filter { tree.entries[$0] != nil }, tree: tree)
      }
      // Elsewhere the publisher makes room; here the files are sent to where the wrong ones lie.
      let publisher = RunPublisher(
        pool: route.pool, layout: layout, components: rows, repair: try await publisherRepair(job, layout: layout))
      do { try await publisher.makeRoom(for: wrong) } catch { throw StepFailure(error) }
    }
    return (rows, digestsThere)
  }

  /// The digests of files here, in their order. Of what is not here any more and was published, the published one.
  private func localDigests(
    of entries: [RunEntry], in folder: RunFolder, _ ground: RepairGround?
  ) async throws(StepFailure) -> [ContentDigest] {
    let kept = ground.map { ground in Set(ground.kept.map(\.path)).intersection(ground.published.keys) } ?? []
    let found = Mutex([ContentDigest?](repeating: nil, count: entries.count))
    do {
      try await Turn.each(of: Array(entries.enumerated()), atOnce: 4) { (number, entry) throws(TransportError) in
        if kept.contains(entry.path), let published = ground?.published[entry.path] {
          found.withLock { $0[number] = published }
          return
        }
        do throws(SyncFailure) {
          let digest = try await FileStream.digest(of: entry, in: folder, on: environment.readers.next())
          found.withLock { $0[number] = digest }
        } catch { throw .failure(error, sessionLost: false) }
      }
    } catch { throw StepFailure(error) }
    return found.withLock { $0.compactMap { $0 } }
  }

  /// Two instruments, or two workstations, whose runs would lie in one folder: neither is merged into the other.
  private func refuseAnotherRun(_ job: JobRow, layout: RemoteLayout, tree: RemoteTree, record: [UInt8]?) async throws(StepFailure) {
    let limit = RemoteDocument.limit(tree.entries.keys)
    let receipt =
      tree.entries[layout.receipt]?.kind == .file ? try await readSmall(layout.final.appending(layout.receipt), limit: limit) : nil
    let there =
      tree.entries[layout.record]?.kind == .file ? try await readSmall(layout.final.appending(layout.record), limit: limit) : nil
    guard
      let difference = RemoteIdentity.difference(receipt: receipt, remoteRecord: there, localRecord: record, equipment: job.equipmentID)
    else { return }
    throw StepFailure(
      SyncFailure(
        .remoteConflict, "\(layout.final) on the NAS is another run: \(difference)",
        hint: "Nothing was changed there. Two instruments or workstations that share a remote_root need runs of different paths: "
          + "give one of them a remote_root of its own, or move the folder on the NAS away."))
  }

  private func linkTarget(_ path: RemotePath) async throws(StepFailure) -> [UInt8] {
    do {
      return try await route.pool.withSession(width: 1) { (session) throws(TransportError) in try await session.symlinkTarget(of: path) }
    } catch { throw StepFailure(error) }
  }

  /// Digests of files on the NAS, the way the configuration asks for.
  func remoteDigests(
    _ paths: [RemotePath], sizes: [RemotePath: UInt64] = [:]
  ) async throws(StepFailure) -> [RemotePath: RemoteVerifier.RemoteDigest] {
    guard !paths.isEmpty else { return [:] }
    return try await withVerifier { (verifier) throws(TransportError) in try await verifier.remoteDigests(paths, sizes: sizes) }
  }

  /// Runs a body with a verifier over a session and, where there is one, the far side's hasher.
  ///
  /// - Parameter believesStore: Whether the store's own word counts, which speaks of the moment in which it took the bytes. Where what lies
  ///   there now is asked about, everything is read back from such a store.
  func withVerifier<Result: Sendable>(
    believesStore: Bool = false, _ body: @Sendable (RemoteVerifier) async throws(TransportError) -> Result
  ) async throws(StepFailure) -> Result {
    let method: RemoteVerifier.Method =
      switch environment.verifyMethod {
      case .auto: .auto
      case .server: .server
      case .readback: .readback
      }
    do throws(TransportError) {
      let offered = method == .readback ? nil : try await route.pool.hasher()
      if offered == nil, method == .server, route.pool.driver.hasherIsUndecided {
        throw .failure(
          SyncFailure(
            .timeout, "the NAS has not shown yet whether it hashes files", hint: "Look whether it is overloaded; it is asked again."),
          sessionLost: false)
      }
      // What a store compared while it wrote is not a hash of what it has: `server` asks for more.
      let believed = believesStore && method == .auto
      let hasher = offered?.evidence == .store && !believed ? nil : offered
      return try await route.pool.withSession(width: 1) { (session) throws(TransportError) in
        try await body(RemoteVerifier(session: session, hasher: hasher, method: method, pace: environment.readBackPace))
      }
    } catch { throw StepFailure(error) }
  }
}

extension [ComponentRow] {
  /// What an earlier attempt or an earlier publication put on the NAS is gone or wrong: it is sent. Where that changes nothing the rows are not touched,
  /// for a run may have many and somebody else holds them, too.
  fileprivate mutating func isNotThere(_ index: Int, published: Bool, inPlace: Bool) {
    let row = self[index]
    // Only of files does an earlier publication leave another mark than that they were sent.
    let isOldLink = if case .symlink = row.entry.kind { published } else { false }
    if row.state == .adopted || row.state == .verified || isOldLink || (inPlace && row.state == .sent) {
      self[index].state = .pending
      self[index].bytesDurable = 0
    }
  }
}
