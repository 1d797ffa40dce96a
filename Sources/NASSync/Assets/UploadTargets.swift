import Foundation
import SyncModel

/// The URLs of one asset, in memory only. Asks the service for new ones when they are missing or have expired, once for all who wait.
actor UploadTargets {
  /// A place and the count of renewals it came with.
  struct Issue: Sendable {
    let target: UploadTarget
    let generation: Int
  }

  private let asset: String
  private let service: any AssetService
  private let clock: any SyncClock
  /// Components that are still to be sent, by the bytes of their names.
  private var open: [[UInt8]: String]
  private var issues: [[UInt8]: Issue] = [:]
  private var generation = 0
  private var renewal: (generation: Int, task: Task<Result<Void, SyncFailure>, Never>)?

  /// - Parameter components: The names of all that are still to be sent.
  init(asset: String, service: any AssetService, components: [String], clock: any SyncClock) {
    self.asset = asset
    self.service = service
    self.clock = clock
    open = Dictionary(components.map { (Array($0.utf8), $0) }) { first, _ in first }
  }

  /// Takes what a registration gave.
  func take(_ grant: AssetGrant) throws(SyncFailure) { try store(grant, wanted: open) }

  /// The component is sent: no more URLs are asked for it.
  func finished(_ component: String) { open[Array(component.utf8)] = nil }

  /// Where a component goes.
  /// - Parameter failed: The issue that the store did not accept, for a newer one.
  func issue(for component: String, after failed: Issue? = nil) async throws(SyncFailure) -> Issue {
    let name = Array(component.utf8)
    if let issue = issues[name], isUsable(issue, after: failed) { return issue }
    try await renew()
    guard let issue = issues[name] else {
      throw Self.wrong("no URL for \(displayText(component))")
    }
    // What comes fresh from the service is tried, whatever this machine's clock says.
    return issue
  }

  private func isUsable(_ issue: Issue, after failed: Issue?) -> Bool {
    if let failed, issue.generation <= failed.generation { return false }
    // A moment before, so that it does not expire on the way.
    return issue.target.expiresAt.map { $0.timeIntervalSince1970 - 5 > clock.wallSeconds } ?? true
  }

  private func renew() async throws(SyncFailure) {
    if let renewal {
      try await renewal.task.value.get()
      return
    }
    let wanted = open
    let (asset, service) = (asset, service)
    let task = Task { () -> Result<Void, SyncFailure> in
      do throws(SyncFailure) {
        let names = wanted.values.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        try self.store(try await service.renew(asset: asset, components: names), wanted: wanted)
        return .success(())
      } catch { return .failure(error) }
    }
    renewal = (generation, task)
    let result = await withTaskCancellationHandler {
      await task.value
    } onCancel: {
      task.cancel()
    }
    renewal = nil
    try result.get()
  }

  private func store(_ grant: AssetGrant, wanted: [[UInt8]: String]) throws(SyncFailure) {
    guard grant.asset.utf8.elementsEqual(asset.utf8) else {
      throw SyncFailure(.protocol, "the service answered about another asset", hint: "Look at the service's log.", retry: false)
    }
    try Self.check(grant)
    var given: [[UInt8]: UploadTarget] = [:]
    for (component, target) in grant.uploads {
      guard given.updateValue(target, forKey: Array(component.utf8)) == nil else {
        throw Self.wrong("two URLs for \(displayText(of: component.utf8.prefix(200)))")
      }
    }
    if let missing = wanted.first(where: { given[$0.key] == nil }) { throw Self.wrong("no URL for \(displayText(missing.value))") }
    generation += 1
    for (name, target) in given where wanted[name] != nil { issues[name] = Issue(target: target, generation: generation) }
  }

  /// - Throws: `SyncFailure` where the asset takes no components.
  static func check(_ grant: AssetGrant) throws(SyncFailure) {
    switch grant.state {
    case .pending: return
    case .ready:
      throw SyncFailure(
        .remoteConflict, "the service calls the asset \(displayText(grant.asset)) ready although not all of its components were sent",
        hint: "Somebody else finished it. Look at it there; `abandon` this upload to send the files as another asset.")
    case .abandoned: throw abandoned(grant.asset)
    }
  }

  /// The asset will never be ready.
  static func abandoned(_ asset: String) -> SyncFailure {
    SyncFailure(
      .remoteConflict, "the service has given up the asset \(displayText(asset))",
      hint: "Call again: the files are sent as a new asset.", retry: false)
  }

  private static func wrong(_ what: String) -> SyncFailure {
    SyncFailure(.protocol, "the service gave \(what)", hint: "Nothing was sent. Look at the service's log.", retry: false)
  }
}
