import Foundation
import Synchronization
import TestSupport
import Testing

@testable import NASSync

/// What no decent service or store says. Nothing of it may send a byte to the wrong place, show a secret, or make an asset count as ready.
@Suite struct HostileAssetServiceTests {
  /// Uploads one file and returns how it failed.
  private func failure(
    _ fixture: AssetFixture, _ options: PresignedUploader.Options = AssetFixture.options(), signsDigests: Bool = false,
    _ location: SourceLocation = #_sourceLocation
  ) async throws -> SyncFailure? {
    let uploader = try await fixture.uploader(options)
    // Written once: a file that changed is another matter.
    let path = fixture.folder.path + "/x"
    if !FileManager.default.fileExists(atPath: path) { try fixture.folder.write("content", to: "x") }
    let failure = await AssetFixture.failure(location) {
      _ = try await uploader.upload(
        assetType: "t", components: [.init(name: "x", localPath: path)], service: try fixture.service(signsDigests: signsDigests))
    }
    #expect(fixture.server.assets.allSatisfy { $0.finalizations == 0 || $0.state == "ready" }, sourceLocation: location)
    #expect(try await uploader.uploads().allSatisfy { $0.state != .ready }, sourceLocation: location)
    for secret in [fixture.server.secret, fixture.server.token, "hunter2"] {
      #expect(failure?.description.contains(secret) == false, sourceLocation: location)
    }
    try fixture.expectNoSecretOnDisk(location)
    await uploader.close()
    return failure
  }

  @Test(arguments: [
    "file:///etc/passwd?X-Signature=hunter2", "ftp://127.0.0.1/x?hunter2", "gopher://127.0.0.1/x", "//127.0.0.1/x", "x", "",
    "http://user:hunter2@127.0.0.1/x", "https://user@127.0.0.1/x?hunter2", "http://169.254.169.254/latest/meta-data?hunter2",
    "http://127.0.0.1:99999/x", "http://127.0.0.1:0/x", "http:///x", "http://127.0.0.1/x\r\nX-Evil: hunter2",
    "http://127.0.0.1/x y?hunter2",
    "http://127.0.0.1/x#hunter2", "http://127.0.0.1\\@evil.example/x", "http://[::1/x", "http://127.0.0.1/\u{e9}",
    "http://127.0.0.1/" + String(repeating: "a", count: 20_000),
  ])
  func aURLThatIsNoneLeadsNowhere(url: String) async throws {
    try await AssetFixture.with { fixture in
      fixture.server.placeUploads { _, name in ["name": name, "url": url] }
      let failure = try await failure(fixture)
      #expect([.protocol, .misconfigured].contains(failure?.kind) && failure?.retry == false, "\(failure.debugDescription)")
      #expect(!fixture.server.requests.contains { $0.method == "PUT" })
    }
  }

  @Test func plainHTTPAndOtherHostsWantTheCallersWord() async throws {
    try await AssetFixture.with { fixture in
      var options = AssetFixture.options()
      options.insecure = false
      let plain = try await failure(fixture, options)
      #expect(plain?.kind == .misconfigured)
      options.insecure = true
      options.allowedHosts = ["store.lab.example"]
      let elsewhere = try await failure(fixture, options)
      #expect(elsewhere?.message.contains("127.0.0.1") == true)
      #expect(!fixture.server.requests.contains { $0.method == "PUT" })
      #expect(throws: SyncFailure.self) { _ = try HTTPAssetService(.init(url: fixture.server.url)) }
      #expect(throws: SyncFailure.self) { _ = try HTTPAssetService(.init(url: "http://10.0.0.1/api", insecure: true)) }
      #expect(throws: SyncFailure.self) { _ = try HTTPAssetService(.init(url: "https://u:hunter2@lab.example/api")) }
    }
  }

  @Test(arguments: [
    ["Host": "evil.example"], ["Authorization": "Bearer x"], ["Cookie": "a=b"], ["Content-Length": "1"], ["Transfer-Encoding": "chunked"],
    ["X-A": "b\r\nX-B: c"], ["X A": "b"], ["": "b"], ["X-A:": "b"], ["X-A": String(repeating: "b", count: 9_000)],
    ["x-amz-content-sha256": String(repeating: "0", count: 64)],
  ])
  func headersThatAreNotTheObjectsOwnAreNotSent(headers: [String: String]) async throws {
    try await AssetFixture.with { fixture in
      fixture.server.placeUploads { [server = fixture.server] id, name in
        [
          "name": name, "url": "http://127.0.0.1:\(server.port)/store/\(id)/\(name)?X-Signature=\(server.secret)&X-Generation=1",
          "headers": headers,
        ]
      }
      let failure = try await failure(fixture, signsDigests: true)
      #expect(failure?.kind == .protocol && failure?.retry == false)
      #expect(!fixture.server.requests.contains { $0.method == "PUT" })
    }
  }

  /// Answers to a registration that make no sense.
  @Test(arguments: [
    "", "{", "null", "[]", "{}", #"{"asset_id": 1, "uploads": []}"#, #"{"asset_id": "a"}"#, #"{"asset_id": "", "uploads": []}"#,
    #"{"asset_id": "..", "uploads": [{"name": "x", "url": "http://127.0.0.1/x"}]}"#,
    #"{"asset_id": "a\r\nb", "uploads": [{"name": "x", "url": "http://127.0.0.1/x"}]}"#,
    #"{"asset_id": "a", "state": "ready", "uploads": [{"name": "x", "url": "http://127.0.0.1/x"}]}"#,
    #"{"asset_id": "a", "state": "odd", "uploads": [{"name": "x", "url": "http://127.0.0.1/x"}]}"#,
    #"{"asset_id": "a", "uploads": [{"name": "y", "url": "http://127.0.0.1/x"}]}"#,
    #"{"asset_id": "a", "uploads": [{"name": "../x", "url": "http://127.0.0.1/x"}]}"#,
    #"{"asset_id": "a", "uploads": [{"name": "x", "url": "http://127.0.0.1/1"}, {"name": "x", "url": "http://127.0.0.1/2"}]}"#,
    #"{"asset_id": "a", "expires_at": "tomorrow", "uploads": [{"name": "x", "url": "http://127.0.0.1/x"}]}"#,
    String(repeating: "[", count: 100_000), "{\"asset_id\": \"" + String(repeating: "a", count: 9_000_000) + "\"}",
  ])
  func answersThatMakeNoSenseEndTheAttempt(answer: String) async throws {
    try await AssetFixture.with { fixture in
      fixture.server.override { $0.path.hasSuffix("/assets") ? .init(201, answer) : nil }
      let failure = try await failure(fixture)
      #expect([.protocol, .remoteConflict].contains(failure?.kind), "\(failure.debugDescription)")
      #expect(!fixture.server.requests.contains { $0.method == "PUT" })
    }
  }

  @Test func refusalsOfTheServiceAreSaidInItsWordsWithoutSecrets() async throws {
    let kinds: [Int: SyncFailure.Kind] = [401: .auth, 404: .misconfigured, 422: .misconfigured, 301: .misconfigured, 503: .network]
    for (status, kind) in kinds {
      try await AssetFixture.with { fixture in
        fixture.server.override { [server = fixture.server] _ in
          .init(
            status, #"{"message": "no: see http://a/b?X-Signature=\#(server.secret)\u001b[0m"}"#,
            headers: ["Location: http://127.0.0.1:1/"])
        }
        let failure = try await failure(fixture)
        #expect(failure?.kind == kind && failure?.message.contains("no: see") == true, "\(failure.debugDescription)")
        #expect(failure?.message.contains("\u{1b}") == false)
      }
    }
  }

  @Test(arguments: [302, 307, 409, 412, 413, 400, 202, 206, 418])
  func aStoreThatDoesNotTakeTheObjectFinishesNothing(status: Int) async throws {
    try await AssetFixture.with { fixture in
      fixture.server.override { [server = fixture.server] request in
        request.method == "PUT" ? .init(status, headers: ["Location: http://127.0.0.1:\(server.port)/elsewhere?\(server.secret)"]) : nil
      }
      let failure = try await failure(fixture)
      #expect(failure != nil)
      #expect(fixture.server.assets[0].finalizations == 0 && fixture.server.requests.filter { $0.method == "PUT" }.count == 1)
    }
  }

  @Test func aStoreThatSaysSuccessTooEarlyIsNotBelieved() async throws {
    try await RawHTTPServer.with({ connection in
      _ = connection.readHead()
      connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
      connection.hang()
    }) { store in
      try await AssetFixture.with { fixture in
        let port = store.port
        fixture.server.placeUploads { _, name in ["name": name, "url": "http://127.0.0.1:\(port)/x?s=1"] }
        let uploader = try await fixture.uploader()
        let path = try fixture.folder.write([UInt8](repeating: 1, count: 30_000_000), to: "big")
        let failure = await AssetFixture.failure {
          _ = try await uploader.upload(assetType: "t", components: [.init(name: "big", localPath: path)], service: try fixture.service())
        }
        #expect(failure?.kind == .protocol, "\(failure.debugDescription)")
        #expect(fixture.server.assets[0].finalizations == 0)
      }
    }
  }

  @Test func aStoreThatStandsStillIsLeft() async throws {
    try await RawHTTPServer.with({ $0.hang() }) { store in
      try await AssetFixture.with { fixture in
        let port = store.port
        fixture.server.placeUploads { _, name in ["name": name, "url": "http://127.0.0.1:\(port)/x?s=1"] }
        var options = AssetFixture.options()
        options.progressTimeout = 1
        let failure = try await failure(fixture, options)
        #expect(failure?.kind == .timeout)
      }
    }
  }

  // MARK: - Finalizing

  @Test func anAssetThatIsReadyAlreadyMustBeOurs() async throws {
    for (isOurs, digest) in [(true, ""), (false, String(repeating: "0", count: 64))] {
      try await AssetFixture.with { fixture in
        let components = try fixture.components()
        // Ready behind our back: by a crash of ours, or by somebody else with other content.
        let uploader = try await fixture.uploader { (step) throws(SyncFailure) in
          if step == .finalizing, !isOurs {
            fixture.server.change("asset-1") {
              $0.state = "ready"
              $0.digests = $0.components.mapValues { _ in digest }
            }
          }
          if step == .finalized, isOurs { throw SyncFailure(.interrupted, "the process died", hint: "") }
        }
        let failure = await AssetFixture.failure {
          _ = try await uploader.upload(assetType: "t", components: components, service: try fixture.service())
        }
        if isOurs {
          let next = try await fixture.uploader()
          let asset = try await next.upload(assetType: "t", components: components, service: try fixture.service())
          #expect(asset.state == .ready && fixture.server.assets[0].finalizations == 2)
          fixture.expectOneReadyAsset()
        } else {
          #expect(failure?.kind == .remoteConflict && failure?.retry == false)
          #expect(try await uploader.uploads().map(\.state) == [.pending])
        }
      }
    }
  }

  @Test func aReadyAssetWithOtherComponentsIsAConflict() async throws {
    let sent = [SentComponent(name: "x", size: 1, sha256: try #require(ContentDigest(hex: String(repeating: "a", count: 64))), etag: nil)]
    let other = ContentDigest(hex: String(repeating: "b", count: 64))
    let wrong: [[AssetRecord.Component]] = [
      [], [.init(name: "y")], [.init(name: "x", size: 2)], [.init(name: "x", sha256: other)], [.init(name: "x"), .init(name: "y")],
      [.init(name: "x"), .init(name: "x")],
    ]
    for components in wrong {
      #expect(throws: SyncFailure.self) {
        try AssetUploadRun.check(AssetRecord(asset: "a", state: .ready, components: components), asset: "a", sent: sent)
      }
    }
    for record in [AssetRecord(asset: "b", state: .ready), AssetRecord(asset: "a", state: .pending)] {
      #expect(throws: SyncFailure.self) { try AssetUploadRun.check(record, asset: "a", sent: sent) }
    }
    try AssetUploadRun.check(AssetRecord(asset: "a", state: .ready, components: [.init(name: "x", size: 1)]), asset: "a", sent: sent)
  }

  @Test func anAssetThatTheServiceGaveUpIsBegunAnew() async throws {
    try await AssetFixture.with { fixture in
      let components = try fixture.components()
      for moment in [AssetUploadRun.Step.registrationStored, .finalizing] {
        let before = fixture.server.assets.count
        let isDone = Mutex(false)
        let uploader = try await fixture.uploader(AssetFixture.options(inFlight: 1)) { step in
          guard step == moment, !isDone.withLock({ $0 }) else { return }
          isDone.withLock { $0 = true }
          fixture.server.change("asset-\(before + 1)") { $0.state = "abandoned" }
          fixture.server.expireURLs()
        }
        // The store of an asset that was given up takes nothing any more.
        fixture.server.override { [server = fixture.server] request in
          let isGivenUp = server.assets.contains { request.path.contains("/\($0.id)/") && $0.state == "abandoned" }
          return request.method == "PUT" && isGivenUp ? .init(403) : nil
        }
        let failure = await AssetFixture.failure {
          _ = try await uploader.upload(assetType: "\(moment)", components: components, service: try fixture.service())
        }
        #expect(failure?.kind == .remoteConflict, "\(failure.debugDescription)")
        #expect(try await uploader.uploads().last?.state == .abandoned)
        let asset = try await uploader.upload(assetType: "\(moment)", components: components, service: try fixture.service())
        #expect(asset.state == .ready && asset.assetID == "asset-\(before + 2)")
      }
    }
  }

  @Test func noDescriptionOfAPlaceShowsItsSecret() {
    let target = UploadTarget(url: "https://u:hunter2@store.example/b/x?X-Signature=hunter2#hunter2", headers: [("x-key", "hunter2")])
    var dumped = ""
    dump([target], to: &dumped)
    for text in ["\(target)", String(reflecting: target), dumped, "\([target])", "\(AssetGrant(asset: "a", uploads: [("x", target)]))"] {
      #expect(!text.contains("hunter2"), "\(text)")
    }
    #expect("\(target)" == "https://store.example/b/x")
    #expect(PresignedURL.scrubbed("see https://a/b?s=1 and /c?t=2, why?") == "see https://a/b?… and /c?… why?")
  }
}
