import NASSync

/// Why a command could not do what it was asked: one sentence that names the thing, what to do next, and the exit code.
struct CommandFailure: Error, Sendable {
  let exit: ExitCode
  /// A failure kind of the contract; `usage` for a command line that cannot be understood.
  let kind: String
  /// Lines without control characters; one sentence each, without its full stop.
  let messages: [String]
  /// Whether the same command may succeed later.
  let retry: Bool
  /// Empty where the message says it.
  let hint: String
  /// What is wrong in the configuration, place by place.
  var problems: [ConfigurationError.Problem] = []

  init(exit: ExitCode, kind: String, message: String, retry: Bool = false, hint: String) {
    self.exit = exit
    self.kind = kind
    messages = [displayText(message)]
    self.retry = retry
    self.hint = hint
  }

  init(_ failure: SyncFailure) {
    self.init(
      exit: ExitCode(failure.kind), kind: failure.kind.rawValue, message: failure.message, retry: failure.retry, hint: failure.hint)
  }

  init(_ error: UsageError) {
    let hint = (error.suggestion.map { "Did you mean \($0)?\n" } ?? "") + error.usage
    self.init(exit: .usage, kind: "usage", message: error.message, hint: hint)
  }

  init(_ error: ConfigurationError) {
    exit = .usage
    kind = SyncFailure.Kind.misconfigured.rawValue
    messages = error.problems.map(\.description)
    retry = false
    hint = ""
    problems = error.problems
  }

  /// For standard error.
  var lines: [String] {
    var lines = messages.map { "nassync: \($0)" }
    // The usage of a command has several lines; they are the program's own words.
    lines += hint.split(separator: "\n").map { displayText(String($0)) }
    return lines
  }
}

extension ExitCode {
  /// What a failure of this kind ends a command with.
  init(_ kind: SyncFailure.Kind) {
    switch kind {
    case .misconfigured: self = .usage
    case .blocked: self = .blocked
    case .hashMismatch, .remoteCorrupted: self = .mismatch
    case .network, .timeout, .auth, .hostKey, .permission, .remoteFull, .remoteConflict, .localChanged, .localVanished, .protocol, .local,
      .interrupted:
      self = .failed
    }
  }

  /// The code of a command that did several things: the most serious of theirs, in the order 2, 1, 4, 3, 75, 0. What a person must put
  /// right before anything else can be said comes first.
  static func worst(_ codes: some Sequence<ExitCode>) -> ExitCode {
    codes.max { $0.seriousness < $1.seriousness } ?? .done
  }

  private var seriousness: Int {
    switch self {
    case .done: 0
    case .tryAgainLater: 1
    case .blocked: 2
    case .mismatch: 3
    case .failed: 4
    case .usage: 5
    }
  }
}
