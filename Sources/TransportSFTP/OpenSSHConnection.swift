import Executors
import Glibc
import SyncModel
import Synchronization
import Transport

/// Connections made by the system's `ssh` program, with the user's and the system's configuration: agent, ProxyJump, hardware keys, tickets.
///
/// Each channel is an `ssh` of its own, and so a log-in of its own. Not `Sendable`: it belongs to the actor that made it.
package final class OpenSSHConnection: SSHConnection {
  private let program: OpenSSHProgram
  private let arguments: OpenSSHArguments
  private let settings: SFTPSettings
  private let interrupter: Interrupter
  private weak var openedChannel: OpenSSHChannel?
  private var isClosed = false
  private var log = OpenSSHLog()
  package private(set) var isLoggedIn = false

  package var carrier: String {
    let cipher = log.cipher.isEmpty ? "" : ", \(log.cipher)"
    return "the ssh program \(displayText(program.path)) (\(program.release)\(cipher))"
  }
  package var serverIdentification: String { log.server }
  package var hostKeyFingerprint: String { log.fingerprint }

  /// Makes connections with the `ssh` that the search path names.
  /// - Parameters:
  ///   - configurationFile: Read instead of the user's and the system's configuration; nil reads those.
  ///   - searchPath: Where to look for the program; nil takes `PATH` from the environment.
  package static func connector(configurationFile: String? = nil, searchPath: String? = nil) -> SSHConnector {
    let known = OpenSSHPreparation(configurationFile: configurationFile, searchPath: searchPath)
    return { (settings, interrupter) throws(TransportError) in
      let (program, arguments) = try known.prepare(settings, interrupter)
      return OpenSSHConnection(program: program, arguments: arguments, settings: settings, interrupter: interrupter)
    }
  }

  private init(program: OpenSSHProgram, arguments: OpenSSHArguments, settings: SFTPSettings, interrupter: Interrupter) {
    self.program = program
    self.arguments = arguments
    self.settings = settings
    self.interrupter = interrupter
  }

  /// Starts an `ssh` and waits until it has logged in, for `connectTimeout` at most.
  package func openChannel(_ purpose: SSHChannelPurpose) throws(TransportError) -> any SSHChannel {
    guard !isClosed, openedChannel == nil else {
      throw .lostConnection(.protocol, "a connection carries one channel at a time", hint: "Close the other one first.")
    }
    let deadline = Deadline(after: settings.connectTimeout)
    let process = try OpenSSHProcess(program: program.path, arguments: arguments.session(purpose))
    let channel = OpenSSHChannel(process: process, settings: settings, place: arguments.place, purpose: purpose)
    do throws(TransportError) {
      try channel.awaitLogin(by: deadline, interrupter: interrupter)
    } catch {
      channel.close()
      throw error
    }
    log = channel.log
    isLoggedIn = true
    openedChannel = channel
    return channel
  }

  package func close() {
    isClosed = true
    openedChannel?.close()
  }

  deinit { close() }
}

/// The program that was found.
struct OpenSSHProgram: Sendable {
  let path: String
  /// `OpenSSH_9.2p1`.
  let release: String
  /// 902 for 9.2.
  let version: Int

  /// - Parameter searchPath: Folders separated by colons; nil takes `PATH`.
  /// - Throws: `misconfigured`, where there is none or it is not OpenSSH's.
  static func find(searchPath: String?, by deadline: Deadline, interrupter: Interrupter) throws(TransportError) -> OpenSSHProgram {
    let folders = searchPath ?? getenv("PATH").map { String(cString: $0) } ?? "/usr/local/bin:/usr/bin:/bin"
    // A relative folder would be looked for wherever this program happens to run.
    let places = folders.split(separator: ":").filter { $0.hasPrefix("/") }.map { "\($0)/ssh" }
    guard let path = places.first(where: isProgram) else {
      throw .lostConnection(
        .misconfigured, "`ssh: openssh` is set, and there is no program ssh in the search path",
        hint: "Install OpenSSH's client (Debian: apt install openssh-client), or set `ssh: builtin`.")
    }
    let answer = try OpenSSHProcess(program: path, arguments: ["-V"]).finish(by: deadline, interrupter: interrupter)
    let words = displayText(of: answer.error.prefix(80).prefix { $0 != UInt8(ascii: "\n") })
    let release = String(words.prefix { $0 != " " && $0 != "," })
    guard let version = parse(release) else {
      throw .lostConnection(
        .misconfigured, "\(displayText(path)) is not OpenSSH's: it calls itself “\(words)”",
        hint: "Install OpenSSH's client (Debian: apt install openssh-client), or set `ssh: builtin`.")
    }
    guard version >= 706 else {
      throw .lostConnection(
        .misconfigured, "\(displayText(path)) is \(release); 7.6 or later is needed", hint: "Update it, or set `ssh: builtin`.")
    }
    return OpenSSHProgram(path: path, release: release, version: version)
  }

  private static func isProgram(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && access(path, X_OK) == 0
  }

  /// 902 of `OpenSSH_9.2p1`, and of `OpenSSH_for_Windows_9.2p1`.
  static func parse(_ release: String) -> Int? {
    guard release.hasPrefix("OpenSSH_"), let last = release.split(separator: "_").last else { return nil }
    let numbers = last.split { !$0.isASCII || !$0.isNumber }
    guard numbers.count >= 2, let major = Int(numbers[0]), let minor = Int(numbers[1]), major < 1000, minor < 100 else { return nil }
    return major * 100 + minor
  }
}

/// Finds out once per destination what every connection needs: which ssh there is and what its configuration says.
final class OpenSSHPreparation: Sendable {
  private struct Known {
    let settings: SFTPSettings
    let program: OpenSSHProgram
    let arguments: OpenSSHArguments
  }

  private let configurationFile: String?
  private let searchPath: String?
  private let known = Mutex<Known?>(nil)

  init(configurationFile: String?, searchPath: String?) {
    self.configurationFile = configurationFile
    self.searchPath = searchPath
  }

  /// - Throws: `misconfigured` where the program, its configuration or a setting cannot be used.
  func prepare(_ settings: SFTPSettings, _ interrupter: Interrupter) throws(TransportError) -> (OpenSSHProgram, OpenSSHArguments) {
    if let known = known.withLock({ $0 }), known.settings == settings, known.program.isThere { return (known.program, known.arguments) }
    let deadline = Deadline(after: settings.connectTimeout)
    let program = try OpenSSHProgram.find(searchPath: searchPath, by: deadline, interrupter: interrupter)
    var arguments = try OpenSSHArguments(settings: settings, configurationFile: configurationFile, version: program.version)
    func ask(_ words: [String]) throws(TransportError) -> OpenSSHProcess.Answer {
      try OpenSSHProcess(program: program.path, arguments: words).finish(by: deadline, interrupter: interrupter)
    }
    let answer = try ask(arguments.query)
    guard answer.exit == 0 else {
      var log = OpenSSHLog()
      log.feed(answer.error)
      log.finish()
      throw OpenSSHFailure(settings: settings, purpose: .sftp, log: log, exit: answer.exit, signal: nil).error
    }
    arguments.learn(answer.output, defaults: try ask(OpenSSHArguments.defaults).output)
    let found = Known(settings: settings, program: program, arguments: arguments)
    known.withLock { $0 = found }
    return (program, arguments)
  }
}

extension OpenSSHProgram {
  fileprivate var isThere: Bool { access(path, X_OK) == 0 }
}

/// Which ciphers to ask for.
enum OpenSSHCiphers {
  /// AES-GCM first where this machine's processor has instructions for AES and the configuration says nothing of ciphers: OpenSSH itself asks for
  /// ChaCha20 first, which takes several times the time there. No cipher is added that the program would not use anyway.
  /// - Parameters:
  ///   - configured: What `ssh -G` says of the host.
  ///   - defaults: What it says where there is no configuration.
  /// - Returns: Nil to leave them as they are.
  static func choice(configured: [UInt8], defaults: [UInt8], hasAES: Bool = OpenSSHCiphers.hasAES) -> String? {
    guard hasAES, let own = OpenSSHArguments.value(of: "ciphers", in: configured),
      own == OpenSSHArguments.value(of: "ciphers", in: defaults)
    else { return nil }
    let ciphers = own.split(separator: ",").map(String.init)
    let first = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"].filter(ciphers.contains)
    guard !first.isEmpty else { return nil }
    return (first + ciphers.filter { !first.contains($0) }).joined(separator: ",")
  }

  static let hasAES: Bool = {
    guard let stream = fopen("/proc/cpuinfo", "re") else { return false }
    defer { fclose(stream) }
    var bytes = [UInt8](repeating: 0, count: 16 * 1024)
    let count = fread(&bytes, 1, bytes.count, stream)
    return String(decoding: bytes.prefix(count), as: UTF8.self).split { $0 == " " || $0 == "\n" }.contains("aes")
  }()
}
