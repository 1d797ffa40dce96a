import SyncModel
import Transport

/// Turns what `ssh` said at its end into a failure with a kind. The one place that knows its sentences.
struct OpenSSHFailure {
  let settings: SFTPSettings
  /// The host's true name and port, as the configuration has them.
  var place: (host: String, port: UInt16)?
  let purpose: SSHChannelPurpose
  let log: OpenSSHLog
  /// Its exit status; nil where a signal ended it, or where it is not known.
  let exit: Int32?
  /// The signal that ended it.
  let signal: Int32?

  private var name: String { displayText(settings.host) }
  private var user: String { displayText(settings.user) }

  /// The first line that holds one of the texts.
  private func line(_ texts: String...) -> String? {
    log.words.first { line in texts.contains { line.contains($0) } }
  }

  /// A line as a person may see it.
  private func said(_ line: String) -> String { "(ssh: “\(displayText(of: line.utf8.prefix(300)))”)" }

  private static func lost(_ kind: SyncFailure.Kind, _ message: String, _ hint: String) -> TransportError {
    .lostConnection(kind, message, hint: hint)
  }

  /// What ended the program.
  var error: TransportError {
    if let signal {
      return Self.lost(
        .local, "the ssh program that carried the connection to \(name) was ended by signal \(signal)",
        "Look who ended it, or whether memory ran out; the transfer continues where it stopped.")
    }
    if log.stage == .loggedIn { return afterLogin }
    return hostKey ?? configuration ?? login ?? network ?? negotiation ?? unknown
  }

  private var afterLogin: TransportError {
    switch purpose {
    case .sftp:
      if line("subsystem request failed") != nil {
        return Self.lost(
          .misconfigured, "\(name) offers no SFTP to the user \(user)",
          "Switch SFTP on in the NAS's settings and allow it for this user.")
      }
    case .exec:
      if line("exec request failed", "shell request failed") != nil { return .unsupported("run commands for the user \(user)") }
    }
    if let line = line("channel 0: open failed", "open failed: ") {
      return Self.lost(
        .network, "\(name) refused a channel \(said(line))", "Lower `connections` in the equipment profile or raise MaxSessions on the NAS."
      )
    }
    if let line = log.words.last(where: { $0.hasPrefix("Timeout, server ") }) {
      return Self.lost(.timeout, "\(name) stopped answering \(said(line))", "Check the NAS and the network; it is tried again.")
    }
    if let line = line("Corrupted MAC", "message authentication code incorrect", "Bad packet length") {
      return Self.lost(.network, "the data was damaged on its way to \(name) \(said(line))", "Check the network; it is tried again.")
    }
    let line = log.words.last.map { " " + said($0) } ?? ""
    return Self.lost(
      .network, "the connection to \(name) was closed\(line)", "Check the NAS and the network; the transfer continues where it stopped.")
  }

  // MARK: Before the log-in

  private var hostKey: TransportError? {
    guard let complaint = line("Host key verification failed", "requested strict checking", "REVOKED HOST KEY") else { return nil }
    let type = HostKeyPolicy.shortName(ofType: log.keyType)
    guard !log.fingerprint.isEmpty else {
      // The server itself was not reached: this is an ssh that was started to get there.
      return Self.lost(
        .hostKey, "a host on the way to \(name) (ProxyJump) shows a key that is unknown or has changed \(said(complaint))",
        "Connect to that host once by hand and compare its fingerprint; its key belongs into the file that ssh's configuration names.")
    }
    let file = settings.knownHostsFile
    let shownFile = file.isEmpty ? "ssh's known hosts" : displayText(file)
    let way = HostKeyPolicy.wayToAdd(
      type: type, host: place?.host ?? settings.host, port: place?.port ?? settings.port, file: file.isEmpty ? "~/.ssh/known_hosts" : file)
    let seen = "\(type) key \(log.fingerprint)"
    if line("REVOKED HOST KEY", "is marked as revoked") != nil {
      return Self.lost(
        .hostKey, "\(name) shows the \(seen), which \(shownFile) revokes",
        "Somebody declared this key stolen or void: do not connect; ask who runs the NAS.")
    }
    if line("IDENTIFICATION HAS CHANGED", "has changed and you have requested strict checking") != nil {
      let place = log.words.compactMap(Self.offendingPlace).first
      let holder = place.map { "line \($0.line) of \($0.file)" } ?? shownFile
      let removal = place.map { "remove line \($0.line)" } ?? "remove the old one"
      return Self.lost(
        .hostKey, "\(name) shows the \(seen), but \(holder) holds another: the key has changed",
        "Either the NAS was set up anew or somebody stands between. Ask who runs it; if the new key is right, \(removal). Then: \(way)")
    }
    return Self.lost(.hostKey, "\(name) is not in \(shownFile); it shows the \(seen)", way)
  }

  /// `Offending ED25519 key in FILE:LINE`.
  private static func offendingPlace(_ line: String) -> (file: String, line: Int)? {
    guard line.hasPrefix("Offending "), let start = line.range(of: " key in "), let colon = line.lastIndex(of: ":"),
      start.upperBound < colon, let number = Int(line[line.index(after: colon)...])
    else { return nil }
    return (displayText(String(line[start.upperBound..<colon])), number)
  }

  private var configuration: TransportError? {
    if let complaint = line(
      "Bad configuration option", "bad configuration option", "Bad owner or permissions", "Can't open user config file",
      "unsupported option",
      "extra arguments at end of line", "no argument after keyword", "Bad SSH2 ", "Bad number", "missing argument", "Missing argument",
      "command-line line 0", "unknown option -- ", "illegal option -- ", "usage: ssh")
    {
      return Self.lost(
        .misconfigured, "the ssh program does not accept its configuration \(said(complaint))",
        "Correct ~/.ssh/config or /etc/ssh/ssh_config; `ssh -G \(shellWord(settings.host))` shows the fault.")
    }
    guard let keyFile = settings.keyFile else { return nil }
    let shown = displayText(keyFile)
    if let complaint = line("UNPROTECTED PRIVATE KEY FILE") ?? line("Permissions 0") {
      return Self.lost(
        .misconfigured, "others may read the key file \(shown), so ssh does not use it \(said(complaint))",
        "chmod 600 \(shellWord(keyFile))")
    }
    if let complaint = line("no such identity", "not accessible: ") {
      return Self.lost(
        .misconfigured, "the key file \(shown) cannot be read \(said(complaint))", "Check `key_file` in the equipment profile.")
    }
    if let complaint = log.words.first(where: { $0.hasPrefix("Load key ") && !$0.contains("incorrect passphrase") }) {
      return Self.lost(
        .misconfigured, "the key file \(shown) is no key that ssh can use \(said(complaint))",
        "Check `key_file`: the private key, without .pub.")
    }
    return nil
  }

  private var login: TransportError? {
    guard
      let complaint = line(
        "Permission denied (", "Too many authentication failures", "No supported authentication methods", "Authentication failed")
    else { return nil }
    // Who logs in has seen the server's key before.
    if log.fingerprint.isEmpty {
      return Self.lost(
        .auth, "a host on the way to \(name) (ProxyJump) refused the log-in \(said(complaint))",
        "Look at what ssh's configuration says of that host, and that it takes the key: ssh -v \(shellWord(settings.host)) tells.")
    }
    let key = settings.keyFile.map { " with the key \(displayText($0))" } ?? " with every key that ssh offered"
    // The reverse order of ssh's own: a server that takes no keys at all.
    if let methods = complaint.range(of: "Permission denied ("), !complaint[methods.upperBound...].contains("publickey") {
      return Self.lost(
        .auth, "\(name) does not take keys from the user \(user) \(said(complaint))",
        "Allow public-key login in the NAS's SSH settings and add the key there: nassync never uses passwords.")
    }
    return Self.lost(
      .auth, "\(name) refused the user \(user)\(key) \(said(complaint))",
      "Check `user`, that the key's .pub is in that user's authorized_keys on the NAS, and that a key with a passphrase is in the agent (ssh-add)."
    )
  }

  private var network: TransportError? {
    if let complaint = line("Could not resolve hostname", "Name or service not known") {
      return Self.lost(
        .network, "there is no host named \(name) \(said(complaint))", "Check `host` in the equipment profile, and the network.")
    }
    if let complaint = line("Connection refused") {
      return Self.lost(
        .network, "nothing answers at \(name): connection refused \(said(complaint))",
        "Check that SSH is switched on there, and `host` and `port` in the equipment profile.")
    }
    if let complaint = line(
      "No route to host", "Network is unreachable", "Host is down", "Cannot assign requested address", "Network is down")
    {
      return Self.lost(.network, "there is no way to \(name) \(said(complaint))", "Check the network of this machine and of the NAS.")
    }
    if let complaint = line("Connection timed out", "Operation timed out", "timed out", "Timeout, server ") {
      return Self.lost(
        .timeout, "\(name) does not answer \(said(complaint))",
        "Check that the NAS is up, and that no firewall drops connections to that port.")
    }
    if let complaint = line(
      "kex_exchange_identification", "ssh_exchange_identification", "banner exchange", "Connection closed by", "Connection reset by",
      "Connection to ", "closed by remote host", "Broken pipe", "stdio forwarding failed", "ssh_dispatch_run_fatal", "Received disconnect")
    {
      return Self.lost(
        .network, "\(name) or a host on the way to it closed the connection before anybody was logged in \(said(complaint))",
        "Check that `port` is the SSH port, that the NAS does not block this machine's address, and that it has connections to spare.")
    }
    return nil
  }

  private var negotiation: TransportError? {
    guard let complaint = line("Unable to negotiate", "no matching ", "Protocol major versions differ", "Bad packet length") else {
      return nil
    }
    return Self.lost(
      .protocol, "no common way of encrypting was found with \(name) \(said(complaint))",
      "Update the NAS's SSH server, or allow what it offers in ssh's configuration.")
  }

  private var unknown: TransportError {
    let end = exit.map { "ended with status \($0)" } ?? "ended"
    let words = log.words.last.map { " " + said($0) } ?? ""
    return Self.lost(
      .protocol, "the ssh program \(end) before it was connected to \(name)\(words)",
      "Try by hand: ssh -l \(shellWord(settings.user)) \(shellWord(settings.host)) true")
  }
}
