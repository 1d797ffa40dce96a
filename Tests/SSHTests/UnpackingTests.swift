import Executors
import Foundation
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport

@testable import TransportSFTP

/// Many small files in one stream that the NAS's own `tar` unpacks.
@Suite struct UnpackingTests {
  private func shell(_ server: LoopbackSSHD, _ settings: SFTPSettings? = nil) async throws -> RemoteShell {
    let shell = try await server.shell(settings)
    await shell.learn(fileMode: 0o100_640)
    return shell
  }

  /// The folder that is unpacked in, made on the server's disk with some below it.
  private func staging(_ server: LoopbackSSHD, folders: [String] = []) throws -> RemotePath {
    for name in [""] + folders {
      try FileManager.default.createDirectory(atPath: server.rootFolder + "/p/.stage/" + name, withIntermediateDirectories: true)
    }
    return RemotePath(root: server.remoteRoot, relative: try RelativePath("p/.stage"))
  }

  /// Bytes, seconds since 1970 and permission bits of what has exactly that name, without following a link.
  private func found(_ name: [UInt8], in server: LoopbackSSHD) throws -> (content: [UInt8], modified: Int, mode: UInt32)? {
    let path = (Array(server.rootFolder.utf8) + Array("/p/.stage/".utf8) + name).map { CChar(bitPattern: $0) } + [0]
    var status = stat()
    guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG, let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var content = [UInt8](repeating: 0, count: Int(status.st_size))
    guard fread(&content, 1, content.count, file) == content.count else { throw TemporaryFolder.Failure("cannot read") }
    return (content, status.st_mtim.tv_sec, status.st_mode & 0o7777)
  }

  /// Tags of what was confirmed, once the feed is closed.
  private func confirmed(_ feed: FileFeed) async -> [Int] { await feed.confirmations.reduce(into: []) { $0 += $1 } }

  private static let names: [[UInt8]] =
    [
      "plain", " it's a \"name\" with $(touch pwned) ", "-rf", "--checkpoint-action=exec=sh", "a\nb", "back\\slash", "tab\t", "ä\u{308}",
      "f1/x",
      "f1/-", "*", "name.tar", String(repeating: "n", count: 255), "f1/" + String(repeating: "m", count: 255),
      String(repeating: "k", count: 100), "._resource", "pax_global_header", "@LongLink",
    ].map { Array($0.utf8) } + [[0xff, 0xfe, 0x80], [0x1b, 0x5b, 0x33, 0x31, 0x6d], Array("f1/".utf8) + [0xc3]]

  @Test func filesArriveAsTheyAre() async throws {
    try await LoopbackSSHD.with { server in
      let shell = try await shell(server)
      let folder = try staging(server, folders: ["f1"])
      let feed = FileFeed()
      let times: [Int64] = [0, 1, 1_700_000_000, 4_000_000_000, -86_400 * 400, 9_999_999_999]
      var sent: [[UInt8]: WholeFile] = [:]
      for (number, name) in Self.names.enumerated() {
        let size = [0, 1, 511, 512, 513, 4096, 255 * 1024][number % 7]
        sent[name] = WholeFile(
          content: noise(size, seed: UInt64(number)), path: folder.appending(try RelativePath(bytes: name)), modified: times[number % 6])
      }
      for number in 0..<5_000 {
        let name = Array("s\(number)".utf8)
        sent[name] = WholeFile(content: Array("\(number)".utf8), path: folder.appending(try RelativePath(bytes: name)), modified: 5)
      }
      let all = Array(sent.values)
      async let unpacked: Void = shell.unpack(feed, into: folder, isFar: false)
      async let tags = confirmed(feed)
      for (tag, start) in stride(from: 0, to: all.count, by: 7).enumerated() {
        #expect(await feed.give(Array(all[start..<min(start + 7, all.count)]), weight: 1_000, tag: tag))
      }
      feed.end()
      try await unpacked
      #expect(await tags.sorted() == Array(0..<((all.count + 6) / 7)))
      for (name, file) in sent {
        let it = try #require(try found(name, in: server), "\(String(decoding: name, as: UTF8.self))")
        #expect(it.content == file.content)
        #expect(it.modified == Int(UInt32(clamping: try #require(file.modified))))
        #expect(it.mode == 0o640)
      }
      #expect(!FileManager.default.fileExists(atPath: NSHomeDirectory() + "/pwned"))
      #expect(try FileManager.default.subpathsOfDirectory(atPath: server.rootFolder + "/p/.stage").count == sent.count + 1)
      // Others have been served meanwhile, and are afterwards.
      #expect(try await shell.digests(of: [all[0].path]) { _ in }.count == 1)
      await shell.close()
    }
  }

  /// What lies under a name, a link most of all, is replaced and never written through.
  @Test func whatIsInTheWayIsReplaced() async throws {
    try await LoopbackSSHD.with { server in
      let shell = try await shell(server)
      let folder = try staging(server)
      let outside = server.rootFolder + "/outside"
      try Data("theirs".utf8).write(to: URL(filePath: outside))
      try FileManager.default.createSymbolicLink(atPath: server.rootFolder + "/p/.stage/link", withDestinationPath: outside)
      try Data(noise(100_000)).write(to: URL(filePath: server.rootFolder + "/p/.stage/longer"))
      let feed = FileFeed()
      async let unpacked: Void = shell.unpack(feed, into: folder, isFar: true)
      for name in ["link", "longer"] {
        #expect(
          await feed.give([WholeFile(content: [1, 2], path: folder.appending(try RelativePath(name)), modified: 7)], weight: 1_000, tag: 0))
      }
      feed.end()
      try await unpacked
      for name in ["link", "longer"] { #expect(try found(Array(name.utf8), in: server)?.content == [1, 2]) }
      #expect(try Data(contentsOf: URL(filePath: outside)) == Data("theirs".utf8))
      await shell.close()
    }
  }

  /// A `tar` that is given up for dead and is not: what it still writes must not come into what was published meanwhile.
  @Test func aLateTarWritesNothingIntoThePublishedFolder() async throws {
    // Reads the stream, waits until the folder has its other name, and then unpacks.
    let late =
      "cat >\"$HOME_OF_TEST/stream\"; while [ -e .stage ]; do sleep 0.05; done; /usr/bin/tar \"$@\" <\"$HOME_OF_TEST/stream\"; "
      + "echo done >\"$HOME_OF_TEST/done\""
    try await TemporaryFolder.with { home in
      try await withTar("HOME_OF_TEST='\(home.path)'; " + late) { server in
        let confirmed = try await send(20, of: 100, to: server, progressTimeout: .milliseconds(500))
        #expect(confirmed == [])
        let (stage, final) = (server.rootFolder + "/p/.stage", server.rootFolder + "/p/Run_1")
        try Data("whole".utf8).write(to: URL(filePath: stage + "/f1"))
        try FileManager.default.moveItem(atPath: stage, toPath: final)
        for _ in 0..<400 where !FileManager.default.fileExists(atPath: home.path + "/done") {
          try await Task.sleep(for: .milliseconds(25))
        }
        #expect(FileManager.default.fileExists(atPath: home.path + "/done"))
        #expect(try FileManager.default.contentsOfDirectory(atPath: final) == ["f1"])
        #expect(try Data(contentsOf: URL(filePath: final + "/f1")) == Data("whole".utf8))
      }
    }
  }

  /// A server whose account finds these programs, and `tar` as it is given: a script, or nil for none.
  private func withTar(_ script: String?, _ body: (LoopbackSSHD) async throws -> Void) async throws {
    try await TemporaryFolder.with { programs in
      let names = ["sh", "cat", "xargs", "sync", "dd", "head", "tail", "openssl", "sleep", "uname", "tar"]
      for name in names where name != "tar" || script != nil {
        if name == "tar", let script {
          try programs.write("#!/bin/sh\n\(script)\n", to: "tar", mode: 0o755)
        } else {
          try FileManager.default.createSymbolicLink(atPath: "\(programs.path)/\(name)", withDestinationPath: "/usr/bin/\(name)")
        }
      }
      try await LoopbackSSHD.with(extraConfiguration: ["SetEnv SHLVL=5 PATH=\(programs.path)"], body)
    }
  }

  /// Gives files until nobody takes them, and returns what was confirmed and how often `unpack` threw.
  private func send(_ files: Int, of size: Int, to server: LoopbackSSHD, progressTimeout: Duration? = nil) async throws -> [Int] {
    var settings = server.settings
    if let progressTimeout { settings.progressTimeout = progressTimeout }
    let shell = try await shell(server, settings)
    let folder = try staging(server)
    let feed = FileFeed()
    async let tags = confirmed(feed)
    async let unpacked: Void = shell.unpack(feed, into: folder, isFar: false)
    let content = noise(size)
    for tag in 0..<files {
      let file = WholeFile(content: content, path: folder.appending(try RelativePath("f\(tag)")), modified: 5)
      guard await feed.give([file], weight: 1_000, tag: tag) else { break }
    }
    feed.end()
    try await unpacked
    await shell.close()
    return await tags
  }

  /// Nothing is believed but a `tar` that took everything and ended well.
  @Test(arguments: [
    nil, "exit 2", "exec tail -c 1", "head -c 100000 >/dev/null; exit 2", "head -c 100000 >/dev/null; exit 0", "exec kill -9 $$",
  ])
  func aTarThatFailsConfirmsNothing(script: String?) async throws {
    try await withTar(script) { server in
      let confirmed = try await send(60, of: 20_000, to: server)
      #expect(confirmed == [])
    }
  }

  /// One that says something without an end is not listened to for ever, nor is one that reads nothing waited for.
  @Test(arguments: [
    "exec sleep 1000", "while :; do echo complaint >&2; done", "while :; do echo more; done", "cat >/dev/null; exec sleep 1000",
  ])
  func aTarThatHangsIsGivenUp(script: String) async throws {
    try await withTar(script) { server in
      let began = ContinuousClock.now
      let confirmed = try await send(30, of: 200_000, to: server, progressTimeout: .milliseconds(700))
      #expect(confirmed == [])
      // Twice the limit, and the time that a slow NAS may take for 6 MB.
      #expect(ContinuousClock.now - began < .seconds(20))
    }
  }

  @Test func aLostConnectionConfirmsNothingMore() async throws {
    try await LoopbackSSHD.with { server in
      let shell = try await shell(server)
      let folder = try staging(server)
      let feed = FileFeed()
      let unpacking = Task { () -> TransportError? in
        do throws(TransportError) { try await shell.unpack(feed, into: folder, isFar: true) } catch { return error }
        return nil
      }
      async let tags = confirmed(feed)
      #expect(await feed.give([WholeFile(content: [1], path: folder.appending(try RelativePath("a")), modified: 5)], weight: 1_000, tag: 1))
      for _ in 0..<2_000 where !feed.hasBegun { try await Task.sleep(for: .milliseconds(5)) }
      #expect(feed.hasBegun)
      try await server.killSessions()
      _ = await unpacking.value
      #expect(await tags == [])
      // Nobody takes anything any more.
      #expect(
        await !feed.give([WholeFile(content: [1], path: folder.appending(try RelativePath("b")), modified: 5)], weight: 1_000, tag: 2))
      await shell.close()
    }
  }

  /// With everything else, or alone.
  @Test(arguments: [true, false]) func itCanBeStopped(byTheShell: Bool) async throws {
    try await LoopbackSSHD.with { server in
      let shell = try await shell(server)
      let folder = try staging(server)
      let feed = FileFeed()
      let unpacking = Task { try await shell.unpack(feed, into: folder, isFar: true) }
      #expect(await feed.give([WholeFile(content: [1], path: folder.appending(try RelativePath("a")), modified: 5)], weight: 1_000, tag: 1))
      for _ in 0..<2_000 where !feed.hasBegun { try await Task.sleep(for: .milliseconds(5)) }
      if byTheShell { shell.interrupt() } else { unpacking.cancel() }
      await #expect(throws: TransportError.self) { try await unpacking.value }
      #expect(feed.isClosed)
      // Whoever waits for room is let go.
      for tag in 2..<40 {
        let file = WholeFile(content: noise(100_000), path: folder.appending(try RelativePath("b")), modified: 5)
        let taken = await feed.give([file], weight: 1_000, tag: tag)
        #expect(!taken)
      }
      if !byTheShell { #expect(try await shell.syncFileSystem(of: folder)) }
      await shell.close()
    }
  }

  /// A file that does not belong there ends the stream before anything of it is sent.
  @Test func whatIsNotBelowTheFolderIsRefused() async throws {
    try await LoopbackSSHD.with { server in
      let shell = try await shell(server)
      let folder = try staging(server)
      for path in [RemotePath(root: server.remoteRoot, relative: try RelativePath("p/other")), folder] {
        let feed = FileFeed()
        let given = await feed.give([WholeFile(content: [1], path: path, modified: 5)], weight: 1_000, tag: 1)
        #expect(given)
        feed.end()
        await #expect(throws: TransportError.self) { try await shell.unpack(feed, into: folder, isFar: false) }
        #expect(await confirmed(feed) == [])
      }
      await shell.close()
    }
  }
}
