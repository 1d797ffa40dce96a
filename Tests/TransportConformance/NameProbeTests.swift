import Foundation
import Glibc
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport
import TransportSFTP

/// What a destination makes of names, found by asking it.
@Suite struct NameProbeTests {
  private let root = RemotePath(root: "/root")

  /// The answers, and that nothing is left.
  private func examine(_ rules: ScriptedDisk.Rules) async throws -> DestinationNames {
    let disk = ScriptedDisk(rules)
    let session = try await disk.server.session()
    let names = try #require(try await session.examineNames(in: root))
    await session.close()
    #expect(disk.names.map { displayText(of: $0) } == [])
    return names
  }

  @Test func aDiskThatTakesEverything() async throws {
    let names = try await examine(ScriptedDisk.Rules())
    #expect(
      names == DestinationNames(foldsCase: false, foldsNormalization: false, maxNameBytes: 255, refused: [], holdsSymlinks: true))
    #expect(names.lines.allSatisfy { $0.grade == .good })
  }

  @Test func aDiskThatFoldsCase() async throws {
    let names = try await examine(ScriptedDisk.Rules(key: { $0.map { $0 >= 0x41 && $0 <= 0x5a ? $0 | 0x20 : $0 } }))
    #expect(names.foldsCase == true && names.foldsNormalization == false && names.refused == [])
  }

  /// As HFS+ does: whatever comes is stored in NFD, and found under every spelling.
  @Test func aDiskThatDecomposesNames() async throws {
    let decomposed: @Sendable ([UInt8]) -> [UInt8] = {
      Array(String(decoding: $0, as: UTF8.self).decomposedStringWithCanonicalMapping.utf8)
    }
    let names = try await examine(
      ScriptedDisk.Rules(key: decomposed, stored: { String(validating: $0, as: UTF8.self) == nil ? nil : decomposed($0) }))
    #expect(names.foldsNormalization == true && names.foldsCase == false)
    #expect(names.refused == [.notUTF8, .composed])
  }

  @Test(arguments: [255, 254, 241, 240, 239, 199, 151, 143, 141, 129, 64, 60])
  func theLongestName(longest: Int) async throws {
    #expect(try await examine(ScriptedDisk.Rules(stored: { $0.count > longest ? nil : $0 })).maxNameBytes == longest)
    // One that cuts instead of refusing does not hold the name either.
    #expect(try await examine(ScriptedDisk.Rules(stored: { Array($0.prefix(longest)) })).maxNameBytes == longest)
  }

  @Test(arguments: [150, 248, 249, 250, 1000, 4095]) func theLongestPath(longest: Int) async throws {
    let found = try #require(try await examine(ScriptedDisk.Rules(maxPath: longest)).maxPathBytes)
    // A folder takes two bytes more, its name and the slash: a limit between the two is found one byte short.
    #expect((longest - 1...longest).contains(found))
  }

  @Test func namesThatAreRefusedOrChanged() async throws {
    let refusing = try await examine(ScriptedDisk.Rules(stored: { $0.contains(0x3a) || $0.contains(0x26) || $0.last == 0x2e ? nil : $0 }))
    #expect(refusing.refused == [.character(0x3a), .character(0x26), .trailingDot])
    let line = try #require(refusing.lines.first { $0.name == "refused_names" })
    #expect(line.grade == .limited && line.detail.contains("the characters : &, a dot at the end"))
    let ascii = try await examine(ScriptedDisk.Rules(stored: { $0.map { $0 < 0x80 ? $0 : 0x5f } }))
    #expect(ascii.refused == [.notUTF8, .nonASCII] && ascii.foldsNormalization == nil)
    let small = try await examine(ScriptedDisk.Rules(stored: { $0.map { $0 >= 0x41 && $0 <= 0x5a ? $0 | 0x20 : $0 } }))
    #expect(small.refused.contains(.upperCase))
    let veto = try await examine(
      ScriptedDisk.Rules(stored: { name in name.first == 0x2e && !name.starts(with: Array(".nassync".utf8)) ? nil : name }))
    #expect(veto.refused == [.leadingDot])
  }

  @Test func aDiskThatHidesWhatItHoldsSaysNothing() async throws {
    #expect(try await examine(ScriptedDisk.Rules(listed: { $0 != Array("first".utf8) })) == DestinationNames())
    #expect(DestinationNames().lines.filter { $0.grade == .limited }.count == 3)
  }

  @Test func aFullDiskIsNotTakenForARefusal() async throws {
    for room in [1, 2, 30, 60] {
      let disk = ScriptedDisk(ScriptedDisk.Rules(room: room))
      let session = try await disk.server.session()
      let error = await failure { _ = try await session.examineNames(in: root) }
      #expect(error?.failure.kind == .remoteFull, "\(room): \(String(describing: error))")
      #expect(disk.names == [])
    }
  }

  /// Answers that no honest server gives: each ends the asking with an error, in bounded time and memory.
  @Test func hostileAnswers() async throws {
    let climbing = ScriptedServer.number(1) + ScriptedServer.string("../../etc") + ScriptedServer.string("") + ScriptedServer.number(0)
    let garbles: [@Sendable (UInt8, UInt32, [UInt8]) -> [UInt8]] = [
      { type, id, answer in type == 12 ? ScriptedServer.packet(104, id, climbing) : answer },
      { type, id, answer in type == 3 ? ScriptedServer.packet(103, id, ScriptedServer.string("data")) : answer },
      { type, id, answer in type == 7 ? ScriptedServer.status(id, 0) : answer },
      { type, _, answer in type == 3 ? answer + answer : answer },
    ]
    for garble in garbles {
      let session = try await ScriptedDisk(ScriptedDisk.Rules(garble: garble)).server.session()
      let error = await failure { _ = try await session.examineNames(in: root) }
      #expect(error?.failure.kind == .protocol && error?.sessionLost == true, "\(String(describing: error))")
    }
  }

  @Test func foldersInFoldersWithoutEndAreNotFollowed() async throws {
    let listings = Atomic<Int>(0)
    let entry = ScriptedServer.number(1) + ScriptedServer.string(String(repeating: "d", count: 200)) + ScriptedServer.string("drwx")
    let folder = ScriptedServer.number(4) + ScriptedServer.number(0o040755)
    let server = ScriptedServer { type, id, _ in
      switch type {
      case 7, 17: return ScriptedServer.packet(105, id, folder)
      case 11:
        listings.store(0, ordering: .relaxed)
        return ScriptedServer.packet(102, id, ScriptedServer.string("h"))
      case 12:
        let first = listings.add(1, ordering: .relaxed).oldValue == 0
        return first ? ScriptedServer.packet(104, id, entry + folder) : ScriptedServer.status(id, 1)
      default: return ScriptedServer.status(id, 0)
      }
    }
    let session = try await server.session()
    let error = await failure { try await session.removeTree(root.appending(try RelativePath("x"))) }
    #expect(error?.failure.kind == .protocol && error?.sessionLost == true)
  }

  /// What a process leaves that is killed while it asks is removed by the next one of the same workstation, and by no other.
  @Test func theNextOneTidiesUpAfterAKilledOne() async throws {
    try await TemporaryFolder.with { folder in
      func examine(_ command: [String]) async throws -> DestinationNames? {
        let servers = PipeServers(command: command)
        let settings = SFTPSettings(host: "pipe", user: "test", keyFile: nil, knownHostsFile: "/nonexistent", remoteRoot: folder.path)
        let session = try await SFTPDriver(settings: settings, connector: servers.connector).session()
        return try await session.examineNames(in: RemotePath(root: folder.path))
      }
      // A server that removes nothing leaves what a kill at the last moment would.
      _ = await failure { _ = try await examine(["/usr/lib/openssh/sftp-server", "-P", "remove,rmdir"]) }
      let left = try #require(try FileManager.default.contentsOfDirectory(atPath: folder.path).first)
      #expect(left.hasPrefix(".nassync-probe-"))
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path + "/" + left).count > 50)
      // The name says that this process made it. It gets a number that no process has, of the same length: the paths in it are as long as
      // they may be.
      var unused = getpid() - 1
      while unused > 1, kill(unused, 0) == 0 || errno != ESRCH { unused -= 1 }
      try #require("\(unused)".count == "\(getpid())".count)
      let dead = left.replacingOccurrences(of: "-\(getpid())-", with: "-\(unused)-")
      let others = ".nassync-probe-0123456789ab-4194305-1"
      try FileManager.default.moveItem(atPath: folder.path + "/" + left, toPath: folder.path + "/" + dead)
      try FileManager.default.createDirectory(atPath: folder.path + "/" + others, withIntermediateDirectories: false)
      #expect(try await examine(["/usr/lib/openssh/sftp-server"])?.maxNameBytes == 255)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [others])
    }
  }

  /// A real NTFS with the rules of Windows, as a USB disk on a NAS has it.
  @Test func aRealFileSystemThatFoldsCase() async throws {
    try #require(geteuid() == 0, "a file system can only be mounted by root: run the tests as root")
    try await TemporaryFolder.with { folder in
      let script =
        "truncate -s 20M \"$1/image\" && mkntfs -F -Q \"$1/image\" && mkdir \"$1/disk\" && "
        + "lowntfs-3g \"$1/image\" \"$1/disk\" -o ignore_case,windows_names"
      let mounted = try await runProcess(["sh", "-c", script, "sh", folder.path])
      try #require(mounted.status == 0, "ntfs-3g and /dev/fuse are needed: \(mounted.errorText)")
      let disk = folder.path + "/disk"
      do {
        let servers = PipeServers(command: ["/usr/lib/openssh/sftp-server"])
        let settings = SFTPSettings(host: "pipe", user: "test", keyFile: nil, knownHostsFile: "/nonexistent", remoteRoot: disk)
        let session = try await SFTPDriver(settings: settings, connector: servers.connector).session()
        let names = try #require(try await session.examineNames(in: RemotePath(root: disk)))
        await session.close()
        #expect(names.foldsCase == true && names.foldsNormalization == false && names.maxNameBytes == 255)
        let expected: [NameTrait] =
          Array(##"<>:"\|?*"##.utf8).map { .character($0) } + [.controlCharacter, .trailingDot, .trailingSpace, .deviceName, .notUTF8]
        #expect(Set(expected).isSubset(of: names.refused), "\(names.refused)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: disk) == [])
      } catch { Issue.record(error) }
      let unmounted = try await runProcess(["umount", disk])
      #expect(unmounted.status == 0, "\(unmounted.errorText)")
    }
  }
}
