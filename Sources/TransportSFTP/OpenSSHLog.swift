import SyncModel

/// What `ssh` writes to standard error, taken apart as it arrives: its own account of the connection, which it marks, and everything else.
/// Bounded, whatever the server sends.
struct OpenSSHLog {
  /// How far it came.
  enum Stage: Comparable { case starting, connecting, connected, loggedIn }

  private(set) var stage = Stage.starting
  /// The server's banner, as `SSH-2.0-OpenSSH_9.2p1`.
  private(set) var server = ""
  /// The key that the server showed, as `ssh-ed25519`, and its `SHA256:…`.
  private(set) var keyType = ""
  private(set) var fingerprint = ""
  /// What encrypts what is sent.
  private(set) var cipher = ""
  /// Whether the server said how the command on the channel ended: then it did not end because of the connection.
  private(set) var hasExitReport = false
  /// The last lines that are not its account: its complaints, and what the far side wrote.
  private(set) var words: [String] = []

  private var line: [UInt8] = []
  private var complaints: [UInt8] = []

  private static let lineLimit = 4096
  private static let wordLimit = 40
  private static let complaintLimit = 64 * 1024
  private static let mark = "debug1: "
  /// Lines of its own account that it does not mark.
  private static let unmarked = ["Authenticated to ", "Transferred: sent ", "Bytes per second: sent "]

  mutating func feed(_ bytes: some Sequence<UInt8>) {
    for byte in bytes {
      if byte == UInt8(ascii: "\n") {
        endLine(whole: true)
      } else {
        line.append(byte)
        if line.count >= Self.lineLimit { endLine(whole: false) }
      }
    }
  }

  /// No more comes.
  mutating func finish() { if !line.isEmpty { endLine(whole: false) } }

  /// Takes what the far side wrote, and the complaints among it: what is not its own account.
  mutating func takeComplaints(_ count: Int) -> [UInt8] {
    let taken = Array(complaints.prefix(count))
    complaints.removeFirst(taken.count)
    return taken
  }

  private mutating func endLine(whole: Bool) {
    defer { line.removeAll(keepingCapacity: true) }
    var text = line[...]
    if text.last == UInt8(ascii: "\r") { text = text.dropLast() }
    if text.starts(with: Self.mark.utf8) {
      note(String(decoding: text.dropFirst(Self.mark.utf8.count), as: UTF8.self))
      return
    }
    if let start = Self.unmarked.first(where: { text.starts(with: $0.utf8) }) {
      if start == Self.unmarked[0] { stage = .loggedIn }
      return
    }
    let room = max(0, Self.complaintLimit - complaints.count)
    complaints += (line + (whole ? [UInt8(ascii: "\n")] : [])).prefix(room)
    guard text.contains(where: { $0 != UInt8(ascii: " ") }) else { return }
    words.append(String(decoding: text.prefix(400), as: UTF8.self))
    if words.count > Self.wordLimit { words.removeFirst() }
  }

  private mutating func note(_ text: String) {
    func rest(after start: String) -> String? { text.hasPrefix(start) ? String(text.dropFirst(start.count)) : nil }
    if stage < .loggedIn {
      if text.hasPrefix("Connecting to ") || text.hasPrefix("Executing proxy command") {
        stage = max(stage, .connecting)
      } else if text.hasPrefix("Local version string ") {
        stage = .connected
      } else if let version = rest(after: "Remote protocol version ") {
        server = displayText("SSH-" + version.split(separator: ", remote software version ", maxSplits: 1).joined(separator: "-"))
      } else if let key = rest(after: "Server host key: ") {
        let parts = key.split(separator: " ")
        if parts.count >= 2 { (keyType, fingerprint) = (displayText(String(parts[0])), displayText(String(parts[1]))) }
      } else if let choice = rest(after: "kex: client->server cipher: ") {
        cipher = displayText(choice.split(separator: " ").first.map(String.init) ?? "")
      } else if text.hasPrefix("Authentication succeeded") || text.hasPrefix("Entering interactive session") {
        stage = .loggedIn
      }
    } else if text.hasPrefix("client_input_channel_req: channel "), text.contains(" rtype exit-s") {
      hasExitReport = true
    }
  }
}
