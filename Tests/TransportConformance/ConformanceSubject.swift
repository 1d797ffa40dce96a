import Foundation
import Glibc
import SyncModel
import TestSupport
import Testing
import Transport
import TransportHTTP
import TransportSFTP

/// A kind of destination that the suite runs over. Another driver joins by adding one to `all`.
struct ConformanceSubject: Sendable, CustomTestStringConvertible {
  typealias Body = @Sendable (RunningSubject) async throws -> Void

  let name: String
  /// By how much less is asked of a server whose time for one file grows with the number of files in its folder, and of another way to a server
  /// that was asked for everything before.
  var slowness = 1
  /// After how long without a byte a session is given up where that is what is tested. A store that other tests use as well takes longer to answer.
  var impatience: Duration = .milliseconds(600)
  /// What names must not have there.
  var refusedNames: [NameTrait] = []
  /// Bytes of the longest path below the root. PATH_MAX is 4096 with the final NUL, on this machine and so behind its servers; a chroot's own
  /// path counts, too.
  var longestPath = 3900...4094
  /// Brings a destination up, with an empty root, runs the body, takes everything down. The driver gives a session up that moves no byte
  /// for the given time.
  let run: @Sendable (_ progressTimeout: Duration, _ body: Body) async throws -> Void
  var testDescription: String { name }

  static let all: [ConformanceSubject] =
    [
      .pipes, .sshd(.shell), .sshd(.chroot), .sshd(.shell, .libssh2), .sshd(.shell, .openssh), .sshd(.chroot, .openssh),
      .webdav(.apache, tls: true),
      .webdav(.nginx), .webdav(.rclone), .s3(.swift), .s3(.ceph),
    ]

  /// Runs a body against a destination of its own.
  func with(progressTimeout: Duration = .seconds(30), _ body: Body) async throws { try await run(progressTimeout, body) }

  /// `with`, with a session.
  func withSession(
    progressTimeout: Duration = .seconds(30), _ body: @Sendable (any TransportSession, RunningSubject) async throws -> Void
  ) async throws {
    try await run(progressTimeout) { running in
      let session = try await running.driver.connect()
      do { try await body(session, running) } catch {
        await session.close()
        throw error
      }
      await session.close()
    }
  }
}

/// A destination that is up.
struct RunningSubject: Sendable {
  let driver: any TransportDriver
  /// The root as the driver names it.
  let root: RemotePath
  /// What is behind the root, seen past the driver.
  let eyes: any DestinationEyes
  /// The same destination with a root that is not there, of a store, whose roots below a bucket always are.
  var withoutRoot: (any TransportDriver)?
  /// Stops the processes that serve the sessions, as a NAS that hangs.
  let hang: @Sendable () async throws -> Void

  func path(_ relative: String) throws -> RemotePath { root.appending(try RelativePath(relative)) }
  func path(_ bytes: [UInt8]) throws -> RemotePath { root.appending(try RelativePath(bytes: bytes)) }
  /// The folder on this machine behind the root; nil behind a store.
  var disk: FolderEyes? { eyes as? FolderEyes }
}

extension ConformanceSubject {
  /// OpenSSH's server over a socket pair: SFTP without SSH.
  static let pipes = ConformanceSubject(name: "sftp-server over a socket pair") { progressTimeout, body in
    try await TemporaryFolder.with { folder in
      let servers = PipeServers(command: ["/usr/lib/openssh/sftp-server", "-e"])
      let settings = SFTPSettings(
        host: "pipe", user: "test", keyFile: nil, knownHostsFile: "/nonexistent", remoteRoot: folder.path, progressTimeout: progressTimeout)
      try await body(
        RunningSubject(
          driver: SFTPDriver(settings: settings, connector: servers.connector), root: RemotePath(root: settings.remoteRoot),
          eyes: FolderEyes(folder: folder.path), hang: { servers.signalAll(SIGSTOP) }))
    }
  }

  /// Who speaks SSH.
  enum Carrier: String {
    case libssh, libssh2, openssh

    /// The machine's own configuration of ssh is no part of a test.
    var connector: SSHConnector {
      switch self {
      case .libssh: BuiltinConnection.connector()
      case .libssh2: LibSSH2Connection.connector()
      case .openssh: OpenSSHConnection.connector(configurationFile: "/dev/null")
      }
    }
  }

  /// A private sshd.
  static func sshd(_ style: LoopbackSSHD.Style, _ carrier: Carrier = .libssh) -> ConformanceSubject {
    ConformanceSubject(name: "sshd (\(style.rawValue)) by \(carrier.rawValue)", slowness: carrier == .libssh && style == .shell ? 1 : 5) {
      progressTimeout, body in
      try await LoopbackSSHD.with(style, keyTypes: [.ed25519]) { server in
        let settings = SFTPSettings(
          host: server.host, port: try #require(UInt16(exactly: server.port)), user: server.user, keyFile: server.keyFile,
          knownHostsFile: server.knownHostsFile, remoteRoot: server.remoteRoot, progressTimeout: progressTimeout)
        try await body(
          RunningSubject(
            driver: SFTPDriver(settings: settings, connector: carrier.connector), root: RemotePath(root: settings.remoteRoot),
            eyes: FolderEyes(folder: server.rootFolder), hang: { await server.pauseSessions() }))
      }
    }
  }
}

extension ConformanceSubject {
  /// A private web server with WebDAV.
  static func webdav(_ make: LoopbackWebDAV.Make, tls: Bool = false) -> ConformanceSubject {
    // nginx leaves such names out of listings; rclone writes a control character into its XML, which is none then.
    let hidden: [NameTrait] =
      switch make {
      case .apache: []
      case .nginx: [.leadingDot]
      case .rclone: [.controlCharacter]
      }
    // In an address each byte of such a path takes three.
    return ConformanceSubject(
      name: "WebDAV of \(make.rawValue)\(tls ? " over TLS" : "")", slowness: make == .rclone ? 40 : make == .nginx ? 5 : 1,
      refusedNames: hidden,
      longestPath: 2000...2800
    ) { progressTimeout, body in
      try await LoopbackWebDAV.with(make, tls: tls) { server in
        let origin = HTTPOrigin(scheme: tls ? .https : .http, host: server.host, port: UInt16(server.port))
        let (user, password) = (server.user, server.password)
        let http = HTTPSettings(
          origin: origin, user: user, caFile: tls ? server.caFile : nil, allowsPlainHTTP: !tls, progressTimeout: progressTimeout,
          credentials: { () throws(SyncFailure) in .basic(user: user, password: password) })
        let settings = WebDAVSettings(http: http, root: server.rootPath)
        try await body(
          RunningSubject(
            driver: WebDAVDriver(settings: settings), root: RemotePath(root: settings.root), eyes: FolderEyes(folder: server.rootFolder),
            hang: { try await server.pause() }))
      }
    }
  }
}

extension ConformanceSubject {
  /// A bucket of a private object store, below a prefix.
  static func s3(_ kind: LoopbackS3.Kind) -> ConformanceSubject {
    let prefix = "lab runs/é"
    // A key has 1,024 bytes at most.
    return ConformanceSubject(
      name: "S3 of \(kind.rawValue)", slowness: kind == .swift ? 16 : 8, impatience: .seconds(4), refusedNames: [.notUTF8],
      longestPath: 1000...1024 - prefix.utf8.count - 2
    ) { progressTimeout, body in
      try await LoopbackS3.with(kind) { store in
        // All tests share the store: what hangs is the way to it.
        try await ByteRelay.with(to: store.port) { relay in
          let credentials = S3Credentials(accessKeyID: store.accessKeyID, secretAccessKey: store.secretAccessKey)
          func driver(_ bucket: String, patience: Duration = progressTimeout) -> S3Driver {
            let http = HTTPSettings(
              origin: HTTPOrigin(scheme: .http, host: relay.host, port: UInt16(relay.port)), allowsPlainHTTP: true,
              progressTimeout: patience)
            return S3Driver(
              settings: S3Settings(http: http, bucket: bucket, prefix: prefix, region: store.region) { () throws(SyncFailure) in credentials
              }
            )
          }
          // The first requests of a store that has just started can take longer than the impatient wait.
          if progressTimeout < .seconds(10) {
            let session = try await driver(store.bucket, patience: .seconds(60)).connect()
            let first = RemotePath(root: "/" + prefix).appending(try RelativePath("first"))
            try await session.put([1], at: first, modified: nil, mode: nil, durable: true)
            _ = try await session.list(RemotePath(root: "/" + prefix))
            try await session.removeFile(first)
            await session.close()
          }
          let running = driver(store.bucket)
          try await body(
            RunningSubject(
              driver: running, root: running.root, eyes: BucketEyes(store: store, prefix: prefix), withoutRoot: driver("no-such-bucket"),
              hang: { relay.pause() }))
        }
      }
    }
  }
}

/// What a file holds, read past every driver.
func bytes(of path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }

func exists(_ path: String) -> Bool {
  var status = stat()
  return lstat(path, &status) == 0
}
