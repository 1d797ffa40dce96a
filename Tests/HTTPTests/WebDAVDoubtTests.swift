import SyncModel
import TestSupport
import Testing
import Transport

@testable import TransportHTTP

/// What a server says on a bad day does not show that it keeps what is there.
@Suite struct WebDAVDoubtTests {
  @Test(arguments: [(503, SyncFailure.Kind.network), (500, .protocol), (429, .network), (403, .permission), (423, .permission)])
  func aBadMomentIsNoProof(_ status: Int, _ kind: SyncFailure.Kind) async throws {
    let trap = HostileWebDAV.Trap(["MOVE"]) { connection, request in
      _ = HostileWebDAV.body(of: request, connection)
      connection.send("HTTP/1.1 \(status) Whatever\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    }
    try await HostileWebDAV.with([trap]) { server in
      let http = HTTPSettings(
        origin: HTTPOrigin(scheme: .http, host: "127.0.0.1", port: server.port), allowsPlainHTTP: true, connections: 2)
      let driver = WebDAVDriver(settings: WebDAVSettings(http: http, root: HostileWebDAV.root))
      let error = await HostileServerTests.failure { await (try driver.connect()).close() }
      #expect(error?.failure.kind == kind && error?.sessionLost == false, "\(String(describing: error))")
      // Nothing of the trial is left, and once the server is well it is tried again.
      server.arm([])
      #expect(server.names == ["/dav", HostileWebDAV.root])
      let session = try await driver.session()
      #expect(session.findings.refusesToOverwrite == true)
      await session.close()
    }
  }
}
