import Foundation
import Glibc
import NASSync
import SyncModel

/// `init [DIR]`: writes a commented configuration to start from. Nothing that exists is overwritten or added to.
struct InitCommand: Sendable {
  let directory: String?

  private struct Answer: Encodable, Sendable {
    let directory: String
    let written: [String]
  }

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    let typed = directory ?? "."
    let folder = typed.hasPrefix("/") ? typed : typed == "." ? context.currentDirectory : context.currentDirectory + "/" + typed
    let written = try await context.console.blocking { () throws(CommandFailure) in try Self.write(StarterConfiguration.files, to: folder) }
    let profile = written.last ?? folder
    var lines = written.map { "wrote \(displayText($0))" }
    lines += [
      "Next: say in \(displayText(profile)) where the instrument's runs lie and where they go (rename the file and its id), then",
      "  nassync --config \(shellWord(written.first ?? folder)) check",
    ]
    await context.console.say(lines)
    await context.console.document(Answer(directory: folder, written: written))
    return .done
  }

  /// All of the files or, where one of them is there already, none.
  private static func write(_ files: [StarterConfiguration.File], to folder: String) throws(CommandFailure) -> [String] {
    let targets = files.map { (path: folder + "/" + $0.path, text: $0.text) }
    var status = stat()
    for target in targets where lstat(target.path, &status) == 0 { throw exists(target.path) }
    var written: [String] = []
    for target in targets {
      try makeFolder((target.path as NSString).deletingLastPathComponent)
      try write(target.text, to: target.path)
      written.append(target.path)
    }
    return written
  }

  private static func exists(_ path: String) -> CommandFailure {
    CommandFailure(
      exit: .failed, kind: SyncFailure.Kind.local.rawValue, message: "\(path) is there already and was left as it is",
      hint: "Edit it, or name another folder: nassync init DIR.")
  }

  private static func makeFolder(_ path: String) throws(CommandFailure) {
    do { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) } catch {
      throw CommandFailure(
        exit: .failed, kind: SyncFailure.Kind.local.rawValue, message: "the folder \(path) cannot be made: \(error.localizedDescription)",
        hint: "Name a folder that you may write to.")
    }
  }

  private static func write(_ text: String, to path: String) throws(CommandFailure) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else {
      if errno == EEXIST { throw exists(path) }
      throw unwritable(path, errno)
    }
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        let code = errno
        close(descriptor)
        // Half a file would stop the next try.
        unlink(path)
        throw unwritable(path, code)
      }
      rest = rest.dropFirst(count)
    }
    guard close(descriptor) == 0 else { throw unwritable(path, errno) }
  }

  private static func unwritable(_ path: String, _ code: Int32) -> CommandFailure {
    CommandFailure(
      exit: .failed, kind: SyncFailure.Kind.local.rawValue, message: "\(path) cannot be written: \(String(cString: strerror(code)))",
      hint: "Name a folder that you may write to: nassync init DIR.")
  }
}
