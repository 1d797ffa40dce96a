import Digests
import Foundation
import Synchronization
import TestSupport
import Testing

@testable import NASSync

/// Assets brought to a service by presigned URLs, on a good day and on days when files, URLs or service change meanwhile.
@Suite struct PresignedUploaderTests {
  @Test func anAssetIsReadyOnceAllComponentsAreThere() async throws {
    try await AssetFixture.with { fixture in
      let uploader = try await fixture.uploader()
      let asset = try await uploader.upload(assetType: "checkpoint", components: try fixture.components(), service: try fixture.service())
      fixture.expectOneReadyAsset()
      #expect(asset.state == .ready && asset.assetID == "asset-1" && asset.evidence == .none)
      #expect(asset.components.allSatisfy { $0.state == .completed && $0.etag != nil && $0.evidence == .none })
      for (name, content) in AssetFixture.contents {
        #expect(asset.components.first { $0.name == name }?.sha256 == SHA256Hasher.digest(of: content))
        #expect(fixture.server.assets[0].digests[name] == SHA256Hasher.digest(of: content)?.hex)
        #expect(fixture.server.assets[0].puts[name] == 1)
      }
      // Nothing but the URL's own query lets a PUT in, and nothing is removed here.
      let puts = fixture.server.requests.filter { $0.method == "PUT" }
      #expect(puts.allSatisfy { $0.headers["authorization"] == nil && $0.headers["content-type"] == "application/octet-stream" })
      #expect(try fixture.components().allSatisfy { FileManager.default.fileExists(atPath: $0.localPath) })
      try fixture.expectNoSecretOnDisk()
      await uploader.close()
    }
  }

  @Test func theSameCallAgainIsTheSameAsset() async throws {
    try await AssetFixture.with { fixture in
      let components = try fixture.components()
      let first = try await fixture.uploader()
      let asset = try await first.upload(assetType: "checkpoint", components: components, service: try fixture.service())
      let second = try await fixture.uploader()
      let requests = fixture.server.requests.count
      #expect(
        try await second.upload(assetType: "checkpoint", components: components.reversed(), service: try fixture.service()) == asset)
      #expect(try await second.resume(asset.number, service: try fixture.service()) == asset)
      #expect(fixture.server.requests.count == requests)
      // Another key, another type: other assets.
      _ = try await second.upload(assetType: "checkpoint", components: components, service: try fixture.service(), key: "b")
      _ = try await second.upload(assetType: "snapshot", components: components, service: try fixture.service())
      #expect(fixture.server.assets.count == 3)
      // Files that changed since are another asset, and the first one stays.
      try fixture.folder.write("{1}", to: "out/metadata.json")
      _ = try await second.upload(assetType: "checkpoint", components: components, service: try fixture.service())
      #expect(fixture.server.assets.count == 4 && fixture.server.assets.allSatisfy { $0.state == "ready" })
      #expect(try await second.uploads().count == 4)
      #expect(try await second.uploads(openOnly: true).isEmpty)
    }
  }

  /// Every moment between two effects: the process dies there, another one makes the same call.
  @Test(arguments: [1, 4]) func aCrashAtAnyMomentIsHarmless(inFlight: Int) async throws {
    // How many moments there are.
    let moments = Mutex(0)
    try await AssetFixture.with { fixture in
      let uploader = try await fixture.uploader(AssetFixture.options(inFlight: inFlight)) { _ in moments.withLock { $0 += 1 } }
      _ = try await uploader.upload(assetType: "checkpoint", components: try fixture.components(), service: try fixture.service())
    }
    let count = moments.withLock { $0 }
    #expect(count == 3 + 3 * AssetFixture.contents.count + 3)
    for crash in 1...count {
      try await AssetFixture.with { fixture in
        let components = try fixture.components()
        let seen = Mutex(0)
        let dying = try await fixture.uploader(AssetFixture.options(inFlight: inFlight)) { _ throws(SyncFailure) in
          // From there on nothing has an effect any more.
          if seen.withLock({
            $0 += 1
            return $0 >= crash
          }) {
            throw SyncFailure(.interrupted, "the process died", hint: "")
          }
        }
        let failure = await AssetFixture.failure {
          _ = try await dying.upload(assetType: "checkpoint", components: components, service: try fixture.service())
        }
        #expect(failure?.kind == .interrupted, "moment \(crash)")
        await dying.close()
        // Whoever comes later finds expired URLs, too.
        if crash.isMultiple(of: 2) { fixture.server.expireURLs() }
        let next = try await fixture.uploader(AssetFixture.options(inFlight: inFlight))
        let asset = try await next.upload(assetType: "checkpoint", components: components, service: try fixture.service())
        #expect(asset.state == .ready, "moment \(crash)")
        fixture.expectOneReadyAsset()
        #expect(fixture.server.assets[0].puts.values.allSatisfy { $0 <= 2 }, "moment \(crash)")
        try fixture.expectNoSecretOnDisk()
        await next.close()
      }
    }
  }

  @Test func severalUploadersOfOneAssetMakeOneOfIt() async throws {
    try await AssetFixture.with { fixture in
      let components = try fixture.components()
      let results = try await withThrowingTaskGroup(of: AssetUpload.self) { group in
        for _ in 0..<4 {
          group.addTask {
            let uploader = try await fixture.uploader()
            return try await uploader.upload(assetType: "checkpoint", components: components, service: try fixture.service())
          }
        }
        var results: [AssetUpload] = []
        for try await result in group { results.append(result) }
        return results
      }
      #expect(Set(results).count == 1)
      fixture.expectOneReadyAsset()
      #expect(fixture.server.assets[0].puts.values.allSatisfy { $0 == 1 } && fixture.server.assets[0].finalizations == 1)
    }
  }

  // MARK: - URLs that do not work any more

  @Test func expiredURLsAreAskedForOnceForAll() async throws {
    try await AssetFixture.with { fixture in
      let uploader = try await fixture.uploader(AssetFixture.options(inFlight: 1)) { step in
        if step == .registrationStored { fixture.server.expireURLs() }
      }
      _ = try await uploader.upload(assetType: "checkpoint", components: try fixture.components(), service: try fixture.service())
      fixture.expectOneReadyAsset()
      #expect(fixture.server.renewals == 1 && fixture.server.registrations == 1)
    }
  }

  @Test func aURLWhoseTimeIsOverIsNotTried() async throws {
    try await AssetFixture.with { fixture in
      fixture.server.placeUploads { [server = fixture.server] id, name in
        [
          "name": name, "url": "http://127.0.0.1:\(server.port)/store/\(id)/\(name)?X-Signature=\(server.secret)&X-Generation=1",
          "expires_at": server.renewals == 0 ? "2001-01-01T00:00:00Z" : "2999-01-01T00:00:00.250Z",
        ]
      }
      let uploader = try await fixture.uploader()
      let path = try fixture.folder.write("x", to: "x")
      _ = try await uploader.upload(assetType: "t", components: [.init(name: "x", localPath: path)], service: try fixture.service())
      #expect(fixture.server.renewals == 1 && fixture.server.assets[0].puts["x"] == 1 && fixture.server.assets[0].state == "ready")
    }
  }

  @Test func aURLThatIsRefusedTwiceIsSaidWithoutItsQuery() async throws {
    try await AssetFixture.with { fixture in
      fixture.server.override { [server = fixture.server] request in
        guard request.method == "PUT" else { return nil }
        return .init(403, "<Error><Code>SignatureDoesNotMatch</Code><StringToSign>\(server.secret)</StringToSign></Error>")
      }
      let uploader = try await fixture.uploader(AssetFixture.options(backoff: [0.01]))
      let components = try fixture.components()
      let failure = await AssetFixture.failure {
        _ = try await uploader.upload(assetType: "t", components: components, service: try fixture.service())
      }
      #expect(failure?.kind == .auth && failure?.retry == false)
      #expect(failure?.message.contains("SignatureDoesNotMatch") == true && failure?.message.contains("/store/asset-1/") == true)
      #expect(failure?.description.contains(fixture.server.secret) == false && failure?.description.contains("X-Signature") == false)
      try fixture.expectNoSecretOnDisk()
      #expect(fixture.server.assets[0].finalizations == 0)
      // Put right, the same call goes on.
      fixture.server.override { _ in nil }
      _ = try await uploader.upload(assetType: "t", components: components, service: try fixture.service())
      fixture.expectOneReadyAsset()
    }
  }

  // MARK: - Failures that pass

  @Test func whatPassesIsTriedAgainAndCounted() async throws {
    try await AssetFixture.with { fixture in
      let refusals = Mutex(2)
      fixture.server.override { request in
        guard request.method == "PUT" || request.path.hasSuffix("/finalize") else { return nil }
        return refusals.withLock { left in
          guard left > 0 else { return nil }
          left -= 1
          return .init(503)
        }
      }
      let uploader = try await fixture.uploader(AssetFixture.options(backoff: [0.05, 0.05, 0.05], inFlight: 1))
      let asset = try await uploader.upload(assetType: "t", components: try fixture.components(), service: try fixture.service())
      fixture.expectOneReadyAsset()
      #expect(asset.attempts == 0 && asset.lastError == nil)
      refusals.withLock { $0 = 100 }
      try fixture.folder.write("again", to: "out/metadata.json")
      let failure = await AssetFixture.failure {
        _ = try await uploader.upload(assetType: "t", components: try fixture.components(), service: try fixture.service())
      }
      #expect(failure?.kind == .network && refusals.withLock { $0 } == 100 - 4)
    }
  }

  @Test func theTimeOfTheNextAttemptOutlivesTheProcess() async throws {
    try await AssetFixture.with { fixture in
      var options = AssetFixture.options(backoff: [3_000])
      options.waitsForRetries = false
      fixture.server.override { $0.method == "PUT" ? .init(500) : nil }
      let components = try fixture.components()
      let clock = ManualClock()
      for _ in 0..<2 {
        let uploader = try await fixture.uploader(options, clock: clock)
        let failure = await AssetFixture.failure {
          _ = try await uploader.upload(assetType: "t", components: components, service: try fixture.service())
        }
        #expect(failure?.kind == .network && failure?.retry == true)
        let open = try await uploader.uploads(openOnly: true)
        #expect(open.map(\.attempts) == [1] && open.first?.nextAttemptAt == Date(timeIntervalSince1970: clock.wallSeconds + 3_000))
        await uploader.close()
      }
      // The second call did not ask anybody.
      let requests = fixture.server.requests.count
      fixture.server.override { _ in nil }
      clock.advance(seconds: 3_001)
      let uploader = try await fixture.uploader(options, clock: clock)
      _ = try await uploader.upload(assetType: "t", components: components, service: try fixture.service())
      #expect(fixture.server.requests.count > requests)
      fixture.expectOneReadyAsset()
    }
  }

  @Test func cancellingEndsACallAtOnce() async throws {
    try await AssetFixture.with { fixture in
      let isHanging = AsyncStream<Void>.makeStream()
      fixture.server.override { request in
        guard request.method == "PUT" else { return nil }
        isHanging.continuation.yield()
        Thread.sleep(forTimeInterval: 5)
        return .init(503)
      }
      let components = try fixture.components()
      let task = Task { () -> SyncFailure? in
        await AssetFixture.failure {
          let uploader = try await fixture.uploader(AssetFixture.options(backoff: [100]))
          _ = try await uploader.upload(assetType: "t", components: components, service: try fixture.service())
        }
      }
      for await _ in isHanging.stream { break }
      let start = SystemClock().monotonicNanoseconds
      task.cancel()
      #expect(await task.value?.kind == .interrupted)
      #expect(SystemClock().monotonicNanoseconds - start < 2_000_000_000)
    }
  }

  // MARK: - Files that change

  @Test(arguments: ["before", "between", "after"]) func aFileThatChangedIsNeverFinished(when: String) async throws {
    try await AssetFixture.with { fixture in
      let components = try fixture.components()
      let isDone = Mutex(false)
      let change: AssetUploadRun.Checkpoint = { (step) throws(SyncFailure) in
        let isMoment =
          switch step {
          case .registrationStored: when == "before"
          case .sentStored("metadata.json"): when == "between"
          case .sentStored("plots/a b+ü?.png"): when == "after"
          default: false
          }
        guard isMoment, !isDone.withLock({ $0 }) else { return }
        isDone.withLock { $0 = true }
        do { try fixture.folder.write("{}", to: "out/metadata.json") } catch { throw SyncFailure(.local, "\(error)", hint: "") }
      }
      let uploader = try await fixture.uploader(AssetFixture.options(backoff: [0.01, 0.01], inFlight: 1), checkpoint: change)
      let failure = await AssetFixture.failure {
        _ = try await uploader.upload(assetType: "t", components: components, service: try fixture.service())
      }
      #expect(failure?.kind == .localChanged && failure?.message.contains("metadata.json") == true)
      #expect(fixture.server.assets.map(\.state) == ["pending"] && fixture.server.assets[0].finalizations == 0)
      #expect(try await uploader.uploads().map(\.state) == [.abandoned])
      // The same call sends what is there now as a new asset.
      let asset = try await uploader.upload(assetType: "t", components: components, service: try fixture.service())
      #expect(asset.assetID == "asset-2" && fixture.server.assets.map(\.state) == ["pending", "ready"])
    }
  }

  @Test func aFileThatIsGoneStopsTheAssetUntilItIsBack() async throws {
    try await AssetFixture.with { fixture in
      let components = try fixture.components()
      let uploader = try await fixture.uploader(AssetFixture.options(inFlight: 1)) { (step) throws(SyncFailure) in
        guard step == .finalizing || step == .sentStored("metadata.json") else { return }
        rename(components[1].localPath, components[1].localPath + ".away")
      }
      let failure = await AssetFixture.failure {
        _ = try await uploader.upload(assetType: "t", components: components, service: try fixture.service())
      }
      #expect(failure?.kind == .localVanished && fixture.server.assets[0].finalizations == 0)
      let again = await AssetFixture.failure {
        _ = try await uploader.upload(assetType: "t", components: components, service: try fixture.service())
      }
      #expect(again?.kind == .localVanished)
      let open = try await uploader.uploads(openOnly: true)
      #expect(open.count == 1)
      try await uploader.abandon(try #require(open.first).number)
      #expect(try await uploader.uploads(openOnly: true).isEmpty)
    }
  }

  @Test func whatIsNoAssetIsRefused() async throws {
    try await AssetFixture.with { fixture in
      let uploader = try await fixture.uploader()
      let path = try fixture.folder.write("x", to: "x")
      symlink(path, fixture.folder.path + "/link")
      let cases: [[PresignedUploader.Component]] = [
        [], [.init(name: "a", localPath: path), .init(name: "a", localPath: path)], [.init(name: "../a", localPath: path)],
        [.init(name: "/a", localPath: path)], [.init(name: "a//b", localPath: path)], [.init(name: "", localPath: path)],
        [.init(name: "a\r\nb", localPath: path)], [.init(name: "a", localPath: path, contentType: "a\r\nX: y")],
        [.init(name: "a", localPath: fixture.folder.path)], [.init(name: "a", localPath: fixture.folder.path + "/link")],
        [.init(name: "a", localPath: fixture.folder.path + "/..")],
      ]
      for components in cases {
        let failure = await AssetFixture.failure {
          _ = try await uploader.upload(assetType: "t", components: components, service: try fixture.service())
        }
        #expect(failure?.kind == .misconfigured, "\(components)")
      }
      let gone = await AssetFixture.failure {
        _ = try await uploader.upload(
          assetType: "t", components: [.init(name: "a", localPath: path + "/no/where")], service: try fixture.service())
      }
      #expect(gone != nil)
      #expect(fixture.server.requests.isEmpty)
      // Two names that look alike and are not the same bytes.
      fixture.server.override { $0.path.hasPrefix("/elsewhere") ? .init(201) : nil }
      _ = try await uploader.upload(
        assetType: "t", components: [.init(name: "\u{e9}", localPath: path), .init(name: "e\u{301}", localPath: path)],
        service: LookalikeService(port: fixture.server.port))
      #expect(Set(fixture.server.requests.map(\.path)) == ["/elsewhere/0", "/elsewhere/1"])
    }
  }

  /// A service of a program's own: two components whose names are equal to Swift and differ in their bytes.
  struct LookalikeService: AssetService {
    let port: UInt16
    var name: String { "lookalike" }
    func register(_ registration: AssetRegistration) async throws(SyncFailure) -> AssetGrant { grant(registration.components.map(\.name)) }
    func renew(asset: String, components: [String]) async throws(SyncFailure) -> AssetGrant { grant(components) }
    private func grant(_ names: [String]) -> AssetGrant {
      AssetGrant(
        asset: "l", uploads: names.enumerated().map { ($1, UploadTarget(url: "http://127.0.0.1:\(port)/elsewhere/\($0)?s=1")) })
    }
    func finalize(asset: String, components: [SentComponent]) async throws(SyncFailure) -> AssetRecord {
      AssetRecord(asset: asset, state: .ready, components: components.map { .init(name: $0.name, size: $0.size, sha256: $0.sha256) })
    }
  }
}
