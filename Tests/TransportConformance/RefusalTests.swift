import Foundation
import Glibc
import SyncModel
import TestSupport
import Testing
import Transport
import TransportSFTP

/// Refusals of OpenSSH's own server, and the ends that a session can come to.
@Suite struct RefusalTests {
  private func withServer(
    _ command: [String], root: String? = nil, _ body: (SFTPDriver, PipeServers, RemotePath, String) async throws -> Void
  ) async throws {
    try await TemporaryFolder.with { folder in
      let servers = PipeServers(command: command)
      var settings = SFTPSettings(
        host: "pipe", user: "labuser", keyFile: nil, knownHostsFile: "/nonexistent", remoteRoot: root ?? folder.path)
      settings.progressTimeout = .seconds(20)
      try await body(
        SFTPDriver(settings: settings, connector: servers.connector), servers, RemotePath(root: settings.remoteRoot), folder.path)
    }
  }

  @Test func permissionDeniedNamesThePathAndTheUser() async throws {
    try await withServer(["/usr/lib/openssh/sftp-server", "-P", "mkdir,rename,remove,setstat,fsetstat,symlink"]) { driver, _, root, _ in
      let session = try await driver.session()
      let path = root.appending(try RelativePath("a"))
      let refused = [
        await failure { try await session.makeFolder(path) },
        await failure { try await session.put([1], at: path, modified: 1, mode: nil, durable: false) },
        await failure { try await session.removeFile(path) },
        await failure { try await session.publish(path, as: root.appending(try RelativePath("b"))) },
        await failure { try await session.setModified(path, to: 1) },
        await failure { try await session.makeSymlink(at: root.appending(try RelativePath("l")), target: [0x61]) },
      ]
      for error in refused {
        #expect(error?.failure.kind == .permission)
        #expect(error?.failure.message.contains("labuser") == true)
        #expect(error?.failure.message.contains(root.description) == true)
        #expect(error?.sessionLost == false)
      }
    }
  }

  @Test func aServerThatOnlyReads() async throws {
    try await withServer(["/usr/lib/openssh/sftp-server", "-R"]) { driver, _, root, folder in
      let session = try await driver.session()
      let error = await failure {
        try await session.put([1], at: root.appending(try RelativePath("f")), modified: nil, mode: nil, durable: false)
      }
      #expect(error?.failure.kind == .permission)
      #expect(!exists(folder + "/f"))
    }
  }

  /// A file system of 1 MiB and 16 inodes, in a mount namespace that ends with the server.
  @Test func aFullDiskIsSaidToBeFull() async throws {
    let mount = "mount -t tmpfs -o size=1m,nr_inodes=16 none /mnt && exec /usr/lib/openssh/sftp-server"
    try await withServer(["/usr/bin/unshare", "-rm", "/bin/sh", "-c", mount], root: "/mnt") { driver, _, root, _ in
      let session = try await driver.session()
      let path = root.appending(try RelativePath("f"))
      let whole = await failure { try await session.put(noise(2 << 20), at: path, modified: nil, mode: nil, durable: false) }
      #expect(whole?.failure.kind == .remoteFull)
      let upload = try await session.beginUpload(path, resumingAt: 0)
      let piecewise = await failure { try await writeOn(upload, session) }
      #expect(piecewise?.failure.kind == .remoteFull)
      #expect(piecewise?.sessionLost == false)
      // Sticks until the upload is given up.
      let end = await failure { try await session.finishUpload(upload, modified: nil, mode: nil, durable: false) }
      #expect(end?.failure.kind == .remoteFull)
      await session.abandonUpload(upload)
      try await session.removeFile(path)
      // Space, but no more files.
      let folders = await failure { try await makeFolders(20, in: root, session) }
      #expect(folders?.failure.kind == .remoteFull)
    }
  }

  private func writeOn(_ upload: UploadHandle, _ session: SFTPSession) async throws {
    for number in 0..<64 { try await session.write(noise(100_000), at: UInt64(number) * 100_000, to: upload) }
    try await session.flush(upload, durable: false)
  }

  private func makeFolders(_ count: Int, in root: RemotePath, _ session: SFTPSession) async throws {
    for number in 0..<count { try await session.makeFolder(root.appending(try RelativePath("d\(number)"))) }
  }

  @Test func aServerThatDiesInMidTransfer() async throws {
    try await withServer(["/usr/lib/openssh/sftp-server"]) { driver, servers, root, _ in
      let session = try await driver.session()
      let upload = try await session.beginUpload(root.appending(try RelativePath("f")), resumingAt: 0)
      let writing = Task {
        await failure {
          for number in 0..<1_000_000 { try await session.write(noise(1 << 16), at: UInt64(number % 100) << 16, to: upload) }
        }
      }
      try await Task.sleep(for: .milliseconds(100))
      servers.signalAll(SIGKILL)
      let error = await writing.value
      #expect(error?.failure.kind == .network)
      #expect(error?.sessionLost == true)
    }
  }

  @Test func aServerThatEndsAtOnceSaysWhy() async throws {
    try await withServer(["/bin/sh", "-c", "echo this account is closed >&2; exit 1"]) { driver, _, _, _ in
      let error = await failure { _ = try await driver.session() }
      #expect(error?.failure.kind == .network)
      #expect(error?.failure.message.contains("this account is closed") == true)
    }
  }

  @Test func aServerThatNeverSpeaks() async throws {
    let servers = PipeServers(command: ["/bin/sleep", "60"])
    var settings = SFTPSettings(host: "pipe", user: "labuser", keyFile: nil, knownHostsFile: "/nonexistent", remoteRoot: "/")
    settings.connectTimeout = .milliseconds(300)
    let driver = SFTPDriver(settings: settings, connector: servers.connector)
    #expect(await failure { _ = try await driver.session() }?.failure.kind == .timeout)
    #expect(servers.running.isEmpty)
  }

  /// A session that nobody uses any more ends its thread and its server, without being closed.
  @Test func aDroppedSessionLeavesNothing() async throws {
    try await withServer(["/usr/lib/openssh/sftp-server"]) { driver, servers, root, _ in
      weak var watched: SFTPSession?
      do {
        let session = try await driver.session()
        watched = session
        try await session.makeFolder(root.appending(try RelativePath("a")))
        let upload = try await session.beginUpload(root.appending(try RelativePath("f")), resumingAt: 0)
        try await session.write(noise(100_000), at: 0, to: upload)
        #expect(servers.running.count == 1)
      }
      #expect(watched == nil)
      for _ in 0..<200 where !servers.running.isEmpty { try await Task.sleep(for: .milliseconds(10)) }
      #expect(servers.running.isEmpty)
    }
  }

  /// Neither a descriptor nor a thread stays behind a session; what other tests hold at the same time is far less.
  @Test func manySessionsLeaveNoDescriptors() async throws {
    func held() throws -> Int {
      try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count
        + FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count
    }
    try await withServer(["/usr/lib/openssh/sftp-server"]) { driver, servers, root, _ in
      let before = try held()
      for number in 0..<300 {
        let session = try await driver.session()
        _ = try await session.entry(at: root)
        if number % 2 == 0 { await session.close() }
      }
      for _ in 0..<500 where !servers.running.isEmpty { try await Task.sleep(for: .milliseconds(10)) }
      #expect(try held() - before < 280)
    }
  }

  @Test func aRelativeRootStartsAtTheLogin() async throws {
    try await TemporaryFolder.with { folder in
      let servers = PipeServers(command: ["/usr/lib/openssh/sftp-server", "-d", folder.path])
      let settings = SFTPSettings(host: "pipe", user: "labuser", keyFile: nil, knownHostsFile: "/nonexistent", remoteRoot: "lab")
      let session = try await SFTPDriver(settings: settings, connector: servers.connector).session()
      #expect(mkdir(folder.path + "/lab", 0o755) == 0)
      let path = RemotePath(root: "lab").appending(try RelativePath("a"))
      try await session.makeFolder(path)
      try await session.put([1], at: path.appending(try RelativePath("f")), modified: nil, mode: nil, durable: false)
      #expect(try bytes(of: folder.path + "/lab/a/f") == [1])
      await session.close()
    }
  }
}
