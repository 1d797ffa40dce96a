import Bandwidth
import Digests
import JobQueue
import SyncModel
import Transport
import TransportHTTP

/// One asset's way to its service, from the queue file's row to `ready`. Whatever it is stopped by, the same row goes on later.
///
/// The order is what makes it safe to repeat: the idempotency key is in the file before the service hears of the asset, a component counts only
/// once the store has answered, and the asset is finished only once every component counts and every file is still what was sent.
struct AssetUploadRun: Sendable {
  /// Moments between two effects, where a test lets the process die.
  package enum Step: Hashable, Sendable {
    case registering, registered, registrationStored
    case sending(String), sent(String), sentStored(String)
    case finalizing, finalized, readyStored
  }
  /// Called at each step.
  typealias Checkpoint = @Sendable (Step) async throws(SyncFailure) -> Void

  let queue: SyncQueue
  let service: any AssetService
  let options: PresignedUploader.Options
  let clock: any SyncClock
  let bandwidth: BandwidthScheduler
  let readers: ReaderThreads
  let number: Int64
  let checkpoint: Checkpoint

  /// Whose bandwidth it is: the service's as a whole, no instrument's.
  static let lane = ""
  static let stopped = SyncFailure(.interrupted, "the upload was told to stop", hint: "Call again: it goes on with what is missing.")

  /// Works until the asset is ready, waiting between attempts as the policy says.
  /// - Throws: `SyncFailure`: the one that ended it, which is on record too unless it is `interrupted`.
  func work() async throws(SyncFailure) {
    let policy = FailurePolicy(backoff: options.retry.backoff)
    while true {
      let row = try await currentRow()
      if row.state == .ready { return }
      if row.state == .abandoned { throw row.lastError ?? Self.stopped }
      try await awaitTurn(row, policy)
      let before = try await completedCount()
      let failure: SyncFailure
      do throws(SyncFailure) {
        try await attempt(row)
        return
      } catch { failure = error.scrubbed }
      if failure.kind == .interrupted || Task.isCancelled { throw failure }
      let asset = try await currentRow().assetID
      if failure.kind == .localChanged || asset.map({ failure == UploadTargets.abandoned($0) }) == true {
        try await queue.abandonAssetUpload(number, because: failure)
        throw failure
      }
      let progressed = try await completedCount() > before
      switch policy.decide(failure, attempts: row.attempts, unreachable: false, progressed: progressed) {
      case .retry(let attempts, let seconds):
        try await queue.noteAssetFailure(number, failure, attempts: attempts, nextAttemptAt: clock.wallSeconds + seconds)
        if !options.waitsForRetries { throw failure }
      case .giveUp, .wait:
        // The next call is a new word of the caller's: it begins to count anew.
        try await queue.noteAssetFailure(number, failure, attempts: 0, nextAttemptAt: nil)
        throw failure
      }
    }
  }

  private func currentRow() async throws(SyncFailure) -> AssetUploadRow {
    guard let row = try await queue.assetUpload(number: number) else {
      throw SyncFailure(.local, "the upload \(number) is not in the queue file", hint: "Call again with its files.", retry: false)
    }
    return row
  }

  private func completedCount() async throws(SyncFailure) -> Int {
    try await queue.assetUploadComponents(of: number).count { $0.state == .completed }
  }

  /// Waits until the time on record has come.
  private func awaitTurn(_ row: AssetUploadRow, _ policy: FailurePolicy) async throws(SyncFailure) {
    guard let due = row.nextAttemptAt else { return }
    // A time further ahead was written while the clock was wrong.
    while case let left = due - clock.wallSeconds, left > 0, left <= policy.longestWait {
      guard options.waitsForRetries else { throw row.lastError ?? Self.stopped }
      do throws(CancellationError) {
        try await clock.sleep(untilMonotonic: clock.monotonicNanoseconds + UInt64(min(left, 30) * 1e9))
      } catch { throw Self.stopped }
    }
  }

  // MARK: - One attempt

  private func attempt(_ row: AssetUploadRow) async throws(SyncFailure) {
    try await requireUnchanged()
    let (asset, grant) = try await register(row)
    let pending = try await queue.assetUploadComponents(of: number).filter { $0.state != .completed }
    if !pending.isEmpty {
      let targets = UploadTargets(asset: asset, service: service, components: pending.map(\.name), clock: clock)
      if let grant { try await targets.take(grant) }
      try await send(pending, targets)
    }
    // Once more, after the last byte of the last one: what is finished is what lies here now.
    try await requireUnchanged()
    try await finalize(asset)
  }

  private func requireUnchanged() async throws(SyncFailure) {
    let components = try await queue.assetUploadComponents(of: number)
    guard !components.isEmpty else { throw PresignedUploader.noComponents }
    try await readers.next().run { () throws(SyncFailure) in
      for component in components { try AssetFile.requireUnchanged(component) }
    }
  }

  /// - Returns: The service's name of the asset, and its URLs where they were just given.
  private func register(_ row: AssetUploadRow) async throws(SyncFailure) -> (asset: String, grant: AssetGrant?) {
    if let asset = row.assetID { return (asset, nil) }
    var components = try await queue.assetUploadComponents(of: number)
    if service.signsDigests, components.contains(where: { $0.digest == nil }) {
      components = try await hashed(components)
    }
    try await checkpoint(.registering)
    let signs = service.signsDigests
    let grant = try await service.register(
      AssetRegistration(
        idempotencyKey: row.idempotencyKey, assetType: row.type,
        components: components.map {
          .init(name: $0.name, size: $0.fingerprint.size, contentType: $0.contentType, sha256: signs ? $0.digest : nil)
        }))
    try await checkpoint(.registered)
    guard Self.isAssetID(grant.asset) else {
      throw SyncFailure(.protocol, "the service gave the asset an id that is none", hint: "Look at the service's log.", retry: false)
    }
    try UploadTargets.check(grant)
    try await queue.setAssetID(number, grant.asset)
    try await checkpoint(.registrationStored)
    return (grant.asset, grant)
  }

  /// An id travels in addresses and messages.
  static func isAssetID(_ text: String) -> Bool {
    (1...256).contains(text.utf8.count) && text != "." && text != ".." && displayText(text).utf8.elementsEqual(text.utf8)
      && !text.utf8.contains { $0 <= 0x20 || $0 == 0x7f }
  }

  private func hashed(_ components: [AssetUploadComponentRow]) async throws(SyncFailure) -> [AssetUploadComponentRow] {
    var digests: [(name: String, digest: ContentDigest)] = []
    for component in components where component.digest == nil {
      let stream = try await AssetFile.open(component, on: readers.next())
      do throws(SyncFailure) {
        try await stream.skip(to: component.fingerprint.size)
        digests.append((component.name, try await stream.finish()))
      } catch { throw AssetFile.named(error, component.name) }
    }
    try await queue.setAssetDigests(number, digests)
    return try await queue.assetUploadComponents(of: number)
  }

  // MARK: Sending

  private func send(_ pending: [AssetUploadComponentRow], _ targets: UploadTargets) async throws(SyncFailure) {
    let options = options
    let clients = StoreClients(limit: options.inFlight + 2) { options.httpSettings($0) }
    let put = ComponentPut(clients: clients, bandwidth: bandwidth, readers: readers, targets: targets, rules: options.rules)
    let turn = Turn()
    let halt = StopFlag()
    let failure = await withTaskCancellationHandler { () -> SyncFailure? in
      let proven: Set<HTTPOrigin>
      do throws(SyncFailure) {
        proven = options.provesStores ? try await StoreProbe(put: put).provenOrigins(pending) : []
      } catch { return error }
      return await withTaskGroup(of: SyncFailure?.self) { group in
        for _ in 0..<min(options.inFlight, pending.count) {
          group.addTask {
            while true {
              let index = turn.advance()
              // After a failure what is in flight comes to its end, and nothing new begins.
              guard index < pending.count, !halt.isSet else { return nil }
              do throws(SyncFailure) { try await sendOne(pending[index], put, proven) } catch {
                halt.set()
                return error
              }
            }
          }
        }
        var worst: SyncFailure?
        for await failure in group {
          guard let failure else { continue }
          if worst.map({ Self.rank(failure) > Self.rank($0) }) ?? true { worst = failure }
          // Nothing that waiting could mend: the others need not come to their end.
          if !failure.retry || failure.kind == .interrupted {
            group.cancelAll()
            clients.interrupt()
          }
        }
        return worst
      }
    } onCancel: {
      clients.interrupt()
    }
    await clients.close()
    if Task.isCancelled { throw Self.stopped }
    if let failure { throw failure }
  }

  /// Which of several failures is the one to report: those that follow from another come last.
  private static func rank(_ failure: SyncFailure) -> Int {
    if failure.kind == .interrupted { return 0 }
    return failure.kind == .localChanged ? 3 : failure.retry ? 1 : 2
  }

  private func sendOne(
    _ row: AssetUploadComponentRow, _ put: ComponentPut, _ proven: Set<HTTPOrigin>
  ) async throws(SyncFailure) {
    try await queue.setAssetComponent(number, name: row.name, state: .uploading)
    try await checkpoint(.sending(row.name))
    let stored: ComponentPut.Stored
    do throws(SyncFailure) { stored = try await put.send(row) } catch {
      if error.kind != .interrupted { try await queue.setAssetComponent(number, name: row.name, state: .pending) }
      throw error
    }
    try await checkpoint(.sent(row.name))
    try await queue.completeAssetComponent(
      number, name: row.name, digest: stored.digest, etag: stored.etag,
      provenByStore: stored.isSealed && proven.contains(stored.origin))
    await put.targets.finished(row.name)
    try await checkpoint(.sentStored(row.name))
  }

  // MARK: Finishing

  private func finalize(_ asset: String) async throws(SyncFailure) {
    let components = try await queue.assetUploadComponents(of: number)
    var sent: [SentComponent] = []
    for component in components {
      guard component.state == .completed, let digest = component.digest else {
        throw SyncFailure(.local, "\(displayText(component.name)) is not recorded as sent", hint: "Call again.")
      }
      sent.append(SentComponent(name: component.name, size: component.fingerprint.size, sha256: digest, etag: component.etag))
    }
    guard !sent.isEmpty else { throw PresignedUploader.noComponents }
    try await checkpoint(.finalizing)
    let record = try await service.finalize(asset: asset, components: sent)
    try await checkpoint(.finalized)
    try Self.check(record, asset: asset, sent: sent)
    try await queue.finishAssetUpload(number)
    try await checkpoint(.readyStored)
  }

  /// Whether what is ready there is what was sent from here.
  static func check(_ record: AssetRecord, asset: String, sent: [SentComponent]) throws(SyncFailure) {
    let shown = displayText(asset)
    guard record.asset.utf8.elementsEqual(asset.utf8) else {
      throw SyncFailure(
        .protocol, "the service answered about another asset than \(shown)", hint: "Look at the service's log.", retry: false)
    }
    switch record.state {
    case .ready: break
    case .abandoned: throw UploadTargets.abandoned(asset)
    case .pending:
      throw SyncFailure(.protocol, "the service has not made \(shown) ready yet", hint: "It is asked again; look at the service's log.")
    }
    guard let listed = record.components else { return }
    var known: [[UInt8]: AssetRecord.Component] = [:]
    for component in listed { known[Array(component.name.utf8)] = component }
    var difference = listed.count == sent.count ? nil : "\(listed.count) components instead of \(sent.count)"
    for component in sent where difference == nil {
      guard let there = known[Array(component.name.utf8)] else {
        difference = "no \(displayText(component.name))"
        break
      }
      if let size = there.size, size != component.size { difference = "\(displayText(component.name)) with \(size) bytes" }
      if let digest = there.sha256, digest != component.sha256 { difference = "\(displayText(component.name)) with another SHA-256" }
    }
    if let difference {
      throw SyncFailure(
        .remoteConflict, "the asset \(shown) is ready at the service with \(difference)",
        hint: "It is not what was sent from here. Keep the local files, and look at who finished it.")
    }
  }
}
