import Digests
import Foundation
import Gate
import Intake
import JobQueue
import SyncModel
import Transport
import Verification

extension JobRunner {
  /// Proves every component by SHA-256, publishes the run in one step and settles the job as VERIFIED.
  func proveAndPublish(_ attempt: Attempt) async throws(StepFailure) {
    let job = await attempt.job
    let asking = await attempt.asking
    if asking == nil { try await reach(job) }
    let layout = try await layout(of: job)
    // The verdict of the gate and the copy of the record do not depend on what the NAS holds.
    async let papers = Self.attempted { () async throws(StepFailure) in try await gatherPapers(job, attempt) }
    let components = try await queued { () async throws(SyncFailure) in try await environment.queue.components(of: job) }
    try await requirePublishedContent(job, components)
    let (outcome, trees, carried) = try await examine(attempt, asking, components, layout)
    await returnMemory(ofEntries: components.count)
    switch outcome {
    case .differs(let mismatches): try await repair(attempt, mismatches, layout: layout, staging: trees.staging)
    case .proven(let receipt):
      try await publish(
        attempt, receipt, try await papers.get(), components: components, carried: carried, layout: layout, final: trees.final)
    }
  }

  /// Compares what the NAS holds with what was sent. What it takes for that is large where the run is, and gone when it returns: of the staging folder's
  /// listing only what a repair needs is left.
  private func examine(
    _ attempt: Attempt, _ asking: Task<Result<Trees, StepFailure>, Never>?, _ components: [ComponentRow], _ layout: RemoteLayout
  ) async throws(StepFailure) -> (VerificationOutcome, Trees, [RunManifest.Entry]) {
    let job = await attempt.job
    let trees =
      if let asking { try await asking.value.get() } else { try await listTrees(layout, known: components.count) }
    let carried = try await carriedOver(job, layout: layout, components: components, final: trees.final)
    let expected = try Self.expected(components, job: job) + carried.map { ExpectedEntry(path: $0.path, content: .file($0.digest)) }
    let names = Set(expected.map(\.path))
    let extras = (trees.staging?.entries.keys.filter { !names.contains($0) && !layout.isBookkeeping($0) } ?? []).sorted()
    if layout.inPlace { try await refuseForeignClaim(job, layout: layout) }
    // Asked for where nothing is renamed only.
    let own = layout.inPlace ? Set(components.filter { $0.state == .sent && $0.entry.kind == .file }.map(\.entry.path)) : []
    var known = Self.known(await attempt.arrivedDigests, components, trees)
    if let adopted = await attempt.adopted {
      known.merge(adopted.holding(in: trees, by: environment.clock)) { arrived, _ in arrived }
    }
    await attempt.forgetDigests()
    let outcome = try await verify(job, expected, known: known, own: own, extras: extras, layout: layout, trees: trees)
    if case .proven = outcome { return (outcome, Trees(staging: nil, final: trees.final), carried) }
    return (outcome, trees, carried)
  }

  struct Trees: Sendable {
    let staging: RemoteTree?
    let final: RemoteTree?
  }

  /// What may lie in a run's place at most: twice what the queue knows of it, and what others put there by hand.
  static func treeLimit(_ known: Int) -> Int { 200_000 + 2 * known }

  /// What lies in the staging folder and in the run's place.
  /// - Parameter known: How many entries the run has.
  func listTrees(_ layout: RemoteLayout, known: Int) async throws(StepFailure) -> Trees {
    let limit = Self.treeLimit(known)
    do {
      return try await route.pool.withSession(width: 1) { (session) throws(TransportError) in
        do {
          async let staging = layout.inPlace ? nil : RemoteTree.walk(layout.staging, session: session, limit: limit, expected: known)
          async let final = RemoteTree.walk(layout.final, session: session, limit: limit)
          return Trees(staging: try await staging, final: try await final)
        } catch { throw TransportError.wrapping(error) }
      }
    } catch { throw StepFailure(error) }
  }

  private static func expected(_ components: [ComponentRow], job: JobRow) throws(StepFailure) -> [ExpectedEntry] {
    var expected: [ExpectedEntry] = []
    expected.reserveCapacity(components.count)
    for row in components {
      switch row.entry.kind {
      case .folder: expected.append(ExpectedEntry(path: row.entry.path, content: .folder))
      case .symlink(let target): expected.append(ExpectedEntry(path: row.entry.path, content: .symlink(target: target)))
      case .file, .special:
        guard let digest = row.localDigest else {
          throw StepFailure(
            SyncFailure(
              .protocol, "the queue has no local digest of \(row.entry.path) in \(job.runPath)",
              hint: "Nothing is called verified without one. `nassync retry` sends the run again.", retry: false))
        }
        expected.append(ExpectedEntry(path: row.entry.path, content: .file(digest), size: row.entry.fingerprint.size))
      }
    }
    return expected
  }

  /// The digests that the NAS made while the run was sent, of files which the listing since shows as they were sent. One that is not the expected
  /// one is left out: it is asked for once more before anything is called different.
  private static func known(
    _ early: [RelativePath: ContentDigest], _ components: [ComponentRow], _ trees: Trees
  ) -> [RelativePath: VerifiedReceipt.Proof] {
    guard !early.isEmpty, let staging = trees.staging else { return [:] }
    var known: [RelativePath: VerifiedReceipt.Proof] = [:]
    known.reserveCapacity(early.count)
    for row in components where row.entry.kind == .file {
      let path = row.entry.path
      // They are equal: with the one from here the other's memory is given back.
      guard let digest = row.localDigest, digest == early[path], let found = staging.entries[path], found.kind == .file,
        found.size == row.entry.fingerprint.size, found.modified == seconds(row.entry.fingerprint.modified)
      else { continue }
      known[path] = VerifiedReceipt.Proof(digest: digest, evidence: .server)
    }
    return known
  }

  private func verify(
    _ job: JobRow, _ expected: [ExpectedEntry], known: [RelativePath: VerifiedReceipt.Proof], own: Set<RelativePath>,
    extras: [RelativePath],
    layout: RemoteLayout, trees: Trees
  ) async throws(StepFailure) -> VerificationOutcome {
    let events = environment.events
    let total = job.filesTotal
    return try await withVerifier(believesStore: true) { (verifier) throws(TransportError) in
      try await verifier.verify(
        expected, known: known, storeKnows: own, absent: { layout.final.appending($0) },
        at: { path in
          if let entry = trees.staging?.entries[path] { return (layout.staging.appending(path), entry) }
          if let entry = trees.final?.entries[path] { return (layout.final.appending(path), entry) }
          return nil
        }, extras: extras,
        progress: {
          events.send(.verifying(jobID: job.id, runPath: job.runPath, filesProven: $0, filesTotal: total))
        })
    }
  }

  /// A digest that differs sends only the components concerned again, once; the second time the job fails.
  private func repair(
    _ attempt: Attempt, _ mismatches: [Mismatch], layout: RemoteLayout, staging: RemoteTree?
  ) async throws(StepFailure) {
    let job = await attempt.job
    let named = mismatches.prefix(5).map { "\($0.path) (\($0.sentence))" }.joined(separator: ", ")
    let more = mismatches.count > 5 ? " and \(mismatches.count - 5) more" : ""
    let failure = SyncFailure(
      .hashMismatch, "the NAS does not hold what was sent: \(named)\(more)",
      hint: job.mismatches == 0
        ? "Only these are sent again, once. If it repeats, check the NAS's disks and memory."
        : "It happened twice. Check the NAS's disks, memory and network, then `nassync retry`.",
      retry: job.mismatches == 0)
    do {
      try await route.pool.withSession(width: 1) { (session) throws(TransportError) in
        for mismatch in mismatches {
          guard let found = staging?.entries[mismatch.path] else { continue }
          let path = layout.staging.appending(mismatch.path)
          if found.kind == .folder { try await session.removeTree(path) } else { try await session.removeFile(path) }
        }
      }
    } catch { throw StepFailure(error) }
    try await queued { () async throws(SyncFailure) in
      try await environment.queue.resetComponents(
        job, worker: environment.worker, paths: mismatches.filter { $0.problem != .extra }.map(\.path))
      var change = JobChange()
      change.releasesClaim = true
      change.mismatches = job.mismatches + 1
      change.lastError = .some(failure)
      change.nextAttemptAt = .some(nil)
      let moved = try await environment.queue.transition(
        job, on: .digestMismatch, worker: environment.worker, change: change, detail: failure.message)
      environment.events.send(.stateChanged(jobID: job.id, runPath: job.runPath, from: job.state, to: moved.state))
      environment.events.send(
        .failed(
          jobID: job.id, runPath: job.runPath, failure: failure, nextAttemptAt: moved.state == .failed ? nil : environment.clock.wallSeconds
        ))
      if moved.state == .failed { await noteInRecord(job, .failed) }
    }
  }

  // MARK: - Publishing

  private func publish(
    _ attempt: Attempt, _ proof: VerifiedReceipt, _ papers: Papers, components: [ComponentRow], carried: [RunManifest.Entry],
    layout: RemoteLayout, final: RemoteTree?
  ) async throws(StepFailure) {
    let job = await attempt.job
    let manifest = RunManifest(
      components.compactMap { row in row.localDigest.map { RunManifest.Entry(path: row.entry.path, digest: $0) } } + carried)
    let foreign = foreignFiles(final, components: components, manifest: manifest, layout: layout)
    let documents = try makeDocuments(job, proof, papers, manifest: manifest, foreign: foreign)
    let publisher = RunPublisher(
      pool: route.pool, layout: layout, components: components, repair: try await publisherRepair(job, layout: layout))
    do throws(TransportError) {
      try await publisher.stage(documents)
      // The last moment to stop without a trace: from here on the run is visible.
      if environment.stop.isSet || Task.isCancelled { throw .failure(ComponentSender.stopped, sessionLost: false) }
      try await publisher.publish(documents) { (remote, expected) async throws(TransportError) in
        // Something of that name appeared on the NAS meanwhile: equal content is adopted, any other is a conflict.
        let digests: [RemotePath: RemoteVerifier.RemoteDigest]
        do throws(StepFailure) { digests = try await remoteDigests([remote]) } catch { throw .failure(error.failure, sessionLost: false) }
        if case .digest(let found, _)? = digests[remote] { return found == expected }
        return false
      }
    } catch { throw StepFailure(error) }
    async let synced = Self.attempted { () async throws(StepFailure) in try await makeRenameDurable(layout) }
    let confirmed = await Self.attempted { () async throws(StepFailure) in
      do throws(TransportError) {
        try await publisher.confirm(documents)
        try await publisher.releaseClaim()
      } catch { throw StepFailure(error) }
    }
    // Both come to their end: leaving the one alone would cancel it, and interrupt the shell that other jobs use, too.
    let durable = await synced
    try confirmed.get()
    try durable.get()
    await writeLocally(job, documents)
    try await settleVerified(attempt, proof, documents)
  }

  /// The rename, too, must outlive a power cut of the NAS before anybody counts on it.
  private func makeRenameDurable(_ layout: RemoteLayout) async throws(StepFailure) {
    guard let parent = layout.final.parent else { return }
    let couldSync = route.pool.canSync == true
    guard try await syncRemote(parent) || !couldSync else {
      throw StepFailure(
        SyncFailure(
          .protocol, "the NAS could write its files to its disks before, and says that it cannot write \(parent)",
          hint: "Check the NAS's disks. The run is published and proven; it is looked at once more.", retry: true))
    }
  }

  /// What lies in the published folder and is none of the run's: named in the receipt, so that nobody takes it for proven.
  private func foreignFiles(
    _ final: RemoteTree?, components: [ComponentRow], manifest: RunManifest, layout: RemoteLayout
  ) -> [String] {
    guard let final else { return [] }
    let own = Set(components.map(\.entry.path)).union(manifest.entries.map(\.path))
    let found = extraFiles(in: final, known: own, layout: layout)
    if !found.isEmpty {
      environment.events.send(
        .warning(
          runPath: nil,
          message: "\(layout.final) holds \(found.count) files that are none of the run's, first \(found[0]); they are left alone"))
    }
    return found.map(\.description)
  }

  /// Files and links that nothing accounts for: not the run's, not this program's, not of a kind that `exclude` keeps back.
  func extraFiles(in tree: RemoteTree, known: Set<RelativePath>, layout: RemoteLayout) -> [RelativePath] {
    let patterns = route.profile.exclude.map(ExcludePattern.init)
    return tree.entries.filter { path, entry in
      entry.kind != .folder && !known.contains(path) && !layout.isBookkeeping(path)
        && !patterns.contains { $0.matches(path, isFolder: false) }
    }.keys.sorted()
  }

  private func settleVerified(_ attempt: Attempt, _ proof: VerifiedReceipt, _ documents: RunDocuments) async throws(StepFailure) {
    let job = await attempt.job
    var change = JobChange()
    change.releasesClaim = true
    change.attempts = 0
    change.lastError = .some(nil)
    change.nextAttemptAt = .some(nil)
    let reading = environment.clock.reading
    change.pass = VerificationPass(
      reading: reading, source: .publish, evidence: proof.evidence, files: proof.proofs.count, ledgerLength: documents.ledgerLength)
    change.repairs = false
    change.verifiedAt = reading.wall
    change.evidence = proof.evidence
    change.manifestDigest = documents.manifestDigest
    change.receiptDigest = documents.receiptDigest
    let proofs = proof.proofs.map { ComponentProof(path: $0.key, remoteDigest: $0.value.digest, evidence: $0.value.evidence) }
    let grade = proof.evidence?.rawValue ?? "none, the run has no file"
    let settled = change
    let moved = try await queued { () async throws(SyncFailure) in
      try await environment.queue.transition(
        job, on: .proven, worker: environment.worker, change: settled, proofs: proofs,
        detail: "\(proof.proofs.count) files proven (evidence: \(grade)), published as \(job.remotePath)")
    }
    environment.events.send(.stateChanged(jobID: job.id, runPath: job.runPath, from: job.state, to: moved.state))
    await attempt.move(to: moved)
  }

  /// What this side has to say of a run that is about to be published.
  private struct Papers: Sendable {
    let record: [UInt8]?
    let verdict: GateVerdict
    let evaluatedAt: Date
    let excluded: [String]
    let ledgerLength: Int
  }

  /// Of the run as it was found a moment ago, where somebody has looked in this attempt.
  private func gatherPapers(_ job: JobRow, _ attempt: Attempt) async throws(StepFailure) -> Papers {
    let snapshot: RunSnapshot
    if let lastLook = await attempt.takeLastLook() { snapshot = lastLook } else { snapshot = try await scan(job) }
    let record = try await environment.gate.recordCopy(snapshot, runPath: job.runPath)
    let decision = await environment.gate.evaluate(
      snapshot, at: Self.location(of: job), published: try await publishedComponents(of: job), limits: route.limits)
    if decision.isInterrupted { throw StepFailure(GateKeeper.interrupted) }
    return Papers(
      record: record, verdict: decision.verdict, evaluatedAt: Date(timeIntervalSince1970: environment.clock.wallSeconds),
      excluded: snapshot.excluded.map(\.description), ledgerLength: GateKeeper.ledgerLength(of: snapshot))
  }

  /// Manifest, receipt and the record's copy, as they travel and as they are kept here.
  private func makeDocuments(
    _ job: JobRow, _ proof: VerifiedReceipt, _ papers: Papers, manifest: RunManifest, foreign: [String]
  ) throws(StepFailure) -> RunDocuments {
    let text = manifest.encoded
    guard let manifestDigest = SHA256Hasher.digest(of: text) else { throw StepFailure(Self.noSHA256) }
    let receipt = Receipt(
      jobID: job.id, generation: job.generation, equipmentID: job.equipmentID, runPath: job.runPath, destination: job.destination,
      remotePath: job.remotePath,
      sender: Receipt.Sender(
        host: environment.sender.host, user: environment.sender.user, program: "nassync \(environment.sender.version)"),
      enqueuedAt: Date(timeIntervalSince1970: job.createdAt), verifiedAt: Date(timeIntervalSince1970: environment.clock.wallSeconds),
      files: job.filesTotal, bytes: job.bytesTotal, excluded: papers.excluded,
      foreign: foreign.isEmpty ? nil : foreign,
      gate: Receipt.GatePart(
        evaluatedAt: papers.evaluatedAt, rules: environment.gate.rules, informing: papers.verdict.informing,
        overridden: papers.verdict.overridden.map(\.finding), overrides: papers.verdict.activeOverrides),
      verification: Receipt.VerificationPart(
        evidence: proof.evidence, server: proof.proofs.values.count { $0.evidence == .server },
        store: proof.proofs.values.count { $0.evidence == .store }, readback: proof.proofs.values.count { $0.evidence == .readback }),
      manifestSHA256: manifestDigest, recordSHA256: papers.record.flatMap { SHA256Hasher.digest(of: $0) })
    let encoded: [UInt8]
    do { encoded = try receipt.encoded() } catch { throw StepFailure(error) }
    guard let receiptDigest = SHA256Hasher.digest(of: encoded) else { throw StepFailure(Self.noSHA256) }
    return RunDocuments(
      manifest: text, manifestDigest: manifestDigest, receipt: encoded, receiptDigest: receiptDigest, record: papers.record,
      ledgerLength: papers.ledgerLength)
  }

  static let noSHA256 = SyncFailure(
    .misconfigured, "this system's libcrypto does not offer SHA-256",
    hint: "Check the OpenSSL configuration; nothing can be proven without it.")

  /// A whole small file on the NAS, nil where it is not there.
  func readSmall(_ path: RemotePath, limit: Int) async throws(StepFailure) -> [UInt8]? {
    do {
      return try await route.pool.withSession(width: 1) { (session) throws(TransportError) in
        try await RunPublisher.readSmall(path, limit: limit, session: session)
      }
    } catch { throw StepFailure(error) }
  }
}
