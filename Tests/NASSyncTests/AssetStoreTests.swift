import Digests
import Foundation
import Synchronization
import TestSupport
import Testing
import TransportHTTP

@testable import NASSync

/// Stores: a real one over TLS, ones that compare SHA-256 and ones that only say so, many at once.
@Suite struct AssetStoreTests {
  /// nginx takes a `PUT` whose query carries the right signature, as a store with presigned URLs does.
  @Test func aRealStoreOverTLSHoldsWhatWasSent() async throws {
    let lines = ["satisfy any; allow all;", "if ($arg_signature != \"s3cr3tS1gnature\") { return 403; }"]
    try await LoopbackWebDAV.with(.nginx, tls: true, configuration: lines) { store in
      try await AssetFixture.with { fixture in
        let origin = "https://\(store.host):\(store.port)\(store.rootPath)"
        fixture.server.placeUploads { id, name in
          // The first URLs are not accepted any more.
          let signature = fixture.server.renewals == 0 ? "expired" : "s3cr3tS1gnature"
          return ["name": name, "url": "\(origin)/\(id)-\(name)?signature=\(signature)"]
        }
        let content = (0..<20_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
        var components = [PresignedUploader.Component(name: "big", localPath: try fixture.folder.write(content, to: "big"))]
        for number in 0..<40 {
          components.append(.init(name: "small\(number)", localPath: try fixture.folder.write("\(number)", to: "small\(number)")))
        }
        // Nobody vouches for the certificate.
        let stranger = try await fixture.uploader()
        let failure = await AssetFixture.failure {
          _ = try await stranger.upload(assetType: "t", components: components, service: try fixture.service())
        }
        #expect(failure?.kind == .hostKey && failure?.description.contains("expired") == false, "\(failure.debugDescription)")

        var options = AssetFixture.options()
        options.caFile = store.caFile
        let uploader = try await fixture.uploader(options)
        let asset = try await uploader.upload(assetType: "t", components: components, service: try fixture.service())
        #expect(asset.state == .ready && asset.components.count == 41 && asset.evidence == .none)
        #expect(try Data(contentsOf: URL(fileURLWithPath: "\(store.rootFolder)/asset-1-big")) == Data(content))
        for number in 0..<40 {
          #expect(try String(contentsOfFile: "\(store.rootFolder)/asset-1-small\(number)", encoding: .utf8) == "\(number)")
        }
      }
    }
  }

  /// A store that compares the body with the digest that the URL is bound to, one that refuses it for something else, and one that does not look.
  @Test(arguments: ["XAmzContentSHA256Mismatch", "InvalidRequest", ""])
  func onlyAStoreThatRefusesAWrongBodyIsEvidence(code: String) async throws {
    let compares = !code.isEmpty
    try await AssetFixture.with { fixture in
      let refusals = Mutex(0)
      fixture.server.override { request in
        guard request.method == "PUT", compares, SHA256Hasher.digest(of: request.body)?.hex != request.headers["x-amz-content-sha256"]
        else {
          return nil
        }
        refusals.withLock { $0 += 1 }
        return .init(400, "<Error><Code>\(code)</Code></Error>")
      }
      fixture.server.placeUploads { [server = fixture.server] id, name in
        let path = name.addingPercentEncoding(withAllowedCharacters: .alphanumerics.union(CharacterSet(charactersIn: "/"))) ?? ""
        return [
          "name": name, "url": "http://127.0.0.1:\(server.port)/store/\(id)/\(path)?X-Signature=\(server.secret)&X-Generation=1",
          "headers": ["x-amz-content-sha256": server.assets[0].registered[name] ?? "", "Content-Type": "text/x-lab"],
        ]
      }
      var options = AssetFixture.options()
      options.provesStores = true
      let uploader = try await fixture.uploader(options)
      let asset = try await uploader.upload(
        assetType: "t", components: try fixture.components(), service: try fixture.service(signsDigests: true))
      #expect(asset.state == .ready && asset.evidence == (code.hasPrefix("XAmz") ? .store : .none))
      #expect(refusals.withLock { $0 } == (compares ? 1 : 0))
      // Whatever the test left there, in the end it is the right bytes.
      fixture.expectOneReadyAsset()
      #expect(fixture.server.requests.filter { $0.method == "PUT" }.allSatisfy { $0.headers["content-type"] == "text/x-lab" })
    }
  }

  @Test func theNumberOfClientsIsBoundedHoweverManyOriginsThereAre() async throws {
    let clients = StoreClients(limit: 3) { HTTPSettings(origin: $0, allowsPlainHTTP: true) }
    for port in 1...20 {
      try await clients.with(HTTPOrigin(scheme: .http, host: "127.0.0.1", port: UInt16(port))) { _ in }
      #expect(clients.count <= 3)
    }
    await clients.close()
    #expect(clients.count == 0)
  }

  @Test func aClientsUploaderKeepsToTheClientsRate() async throws {
    try await AssetFixture.with { fixture in
      let configuration = ServiceConfiguration(stateDirectory: fixture.state, equipment: [], uploadMbps: 8)
      let client = NASSyncClient(configuration: configuration)
      let uploader = try await client.assetUploader(AssetFixture.options())
      let path = try fixture.folder.write([UInt8](repeating: 1, count: 2_000_000), to: "big")
      let start = SystemClock().monotonicNanoseconds
      let asset = try await uploader.upload(
        assetType: "t", components: [.init(name: "big", localPath: path)], service: try fixture.service())
      let seconds = Double(SystemClock().monotonicNanoseconds - start) / 1e9
      // 2 MB at 1 MB/s, less what the bucket held at the start.
      #expect(asset.state == .ready && seconds > 1 && seconds < 20, "\(seconds) s")
      await uploader.close()
      #expect(try await uploader.uploads().count == 1)
      await client.close()
    }
  }
}
