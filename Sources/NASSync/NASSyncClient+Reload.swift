import Bandwidth
import Configuration
import SyncModel

/// Another configuration for a client that works.
extension NASSyncClient {
  /// Takes another configuration without stopping the work.
  ///
  /// Limits of bandwidth hold at once, for what is in flight too. A job in flight ends with the destination it began with; the next claim takes
  /// the new one, and a queued job whose instrument goes elsewhere now goes there. The gate, the retries, the verification and the clean-up
  /// take the new settings with the next run that they look at. Fewer workers end the job they have.
  /// - Parameter configuration: Loaded from files, or built in code.
  /// - Returns: What changed, a few words each; empty where nothing did.
  /// - Throws: `SyncFailure` of kind `misconfigured` where it cannot be used or would need a restart. The former one stays in force then,
  ///   in every part.
  @discardableResult
  public func reload(_ configuration: ServiceConfiguration) async throws(SyncFailure) -> [String] {
    do throws(ConfigurationError) { try configuration.validate() } catch {
      throw SyncFailure(
        .misconfigured, "the configuration cannot be used: \(error)", hint: "Correct it and reload; the former one stays in force.")
    }
    try Self.refuseWhatNeedsARestart(self.configuration, configuration)
    if let scheduler {
      do throws(BandwidthError) {
        try await scheduler.update(serviceMbps: configuration.uploadMbps, profiles: configuration.bandwidthProfiles)
      } catch {
        throw SyncFailure(
          .misconfigured, "the bandwidth settings cannot be used: \(error)",
          hint: "Correct them and reload; the former ones stay in force.")
      }
    }
    let former = self.configuration
    current.withLock { $0 = configuration }
    gateKeeper = Self.gateKeeper(configuration, validator: validator, clock: clock, readers: readers)
    for (id, route) in routes where configuration.equipment(id: id) != route.profile {
      routes[id] = nil
      // The driver of a destination that stays the same keeps its sessions.
      guard let profile = configuration.equipment(id: id), profile.transport == route.profile.transport else {
        retiredPools.append(route.pool)
        continue
      }
      routes[id] = RunnerEnvironment.Route(
        profile: profile, pool: route.pool, root: route.root, connections: route.connections, survey: route.survey)
    }
    await closeUnusedPools()
    await watcher?.reconsider()
    return ConfigurationDifference.words(from: former, to: configuration)
  }

  private static func refuseWhatNeedsARestart(
    _ former: ServiceConfiguration, _ next: ServiceConfiguration
  ) throws(SyncFailure) {
    let pairs = [
      ("state_dir", former.stateDirectory, next.stateDirectory), ("metadata_dir", former.metadataFolder, next.metadataFolder),
    ]
    for (key, old, new) in pairs where !old.utf8.elementsEqual(new.utf8) {
      throw SyncFailure(
        .misconfigured, "\(key) cannot change from \(displayText(old)) to \(displayText(new)) while the service runs",
        hint: "Restart the service for that; until then everything stays as it was.")
    }
  }

  /// Closes retired destinations that nothing but their list refers to any more.
  func closeUnusedPools() async {
    var unused: [SessionPool] = []
    for index in retiredPools.indices.reversed() where isKnownUniquelyReferenced(&retiredPools[index]) {
      unused.append(retiredPools.remove(at: index))
    }
    for pool in unused { await pool.close() }
  }
}

/// What a reload changed, for one line of a log.
enum ConfigurationDifference {
  static func words(from old: ServiceConfiguration, to new: ServiceConfiguration) -> [String] {
    var words: [String] = []
    if old.workers != new.workers { words.append("workers \(old.workers) → \(new.workers)") }
    if old.uploadMbps != new.uploadMbps { words.append("upload_mbps \(rate(old.uploadMbps)) → \(rate(new.uploadMbps))") }
    if old.timeZone != new.timeZone { words.append("time_zone") }
    if old.retry != new.retry { words.append("retry") }
    if old.verify != new.verify { words.append("verify") }
    if old.cleanup != new.cleanup { words.append("cleanup") }
    if old.gate != new.gate { words.append("gate") }
    if old.assetServices != new.assetServices { words.append("asset_services") }
    for profile in new.equipment {
      guard let former = old.equipment(id: profile.id) else {
        words.append("instrument \(profile.id) added")
        continue
      }
      let parts = Self.parts(former, profile)
      if !parts.isEmpty { words.append("instrument \(profile.id): \(parts.joined(separator: ", "))") }
    }
    for profile in old.equipment where new.equipment(id: profile.id) == nil { words.append("instrument \(profile.id) removed") }
    return words
  }

  private static func parts(_ old: EquipmentProfile, _ new: EquipmentProfile) -> [String] {
    var parts: [String] = []
    if old.label != new.label { parts.append("label") }
    if old.localRoot != new.localRoot { parts.append("local_root") }
    if old.completeness != new.completeness { parts.append("completeness") }
    if old.exclude != new.exclude { parts.append("exclude") }
    if old.transport != new.transport { parts.append("transport") }
    if old.bandwidth != new.bandwidth { parts.append("bandwidth") }
    return parts
  }

  private static func rate(_ mbps: Double?) -> String { mbps.map { "\($0)" } ?? "unlimited" }
}
