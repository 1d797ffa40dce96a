import Executors
import Glibc
import Intake
import SyncModel

/// A program of the lab's own that is asked about each run: the run as JSON on its standard input, findings as JSON on its standard output
/// (`Specs/schemas`). Whatever goes wrong with it is a finding `validator_failed`, which blocks the run and which no override lets pass.
package struct ExternalValidator: RunValidator {
  /// The program and its arguments; no shell sees them.
  package let command: [String]
  /// Seconds.
  package let timeout: Double
  /// Bytes of standard output that are taken.
  let outputLimit: Int

  /// - Parameters:
  ///   - command: A program with a `/` is a path, one without is looked up in `PATH`.
  ///   - timeout: Seconds from start to end.
  package init(command: [String], timeout: Double, outputLimit: Int = 16 << 20) {
    self.command = command
    self.timeout = timeout
    self.outputLimit = outputLimit
  }

  /// The program's name, as findings give it.
  package var name: String {
    let program = command.first ?? ""
    return displayText(program.split(separator: "/").last.map(String.init) ?? program)
  }

  /// What the program says. Never throws. Cancelling the task stops the program at once; the answer is `validator_failed` then, and the
  /// caller, who knows that it was cancelled, makes nothing of it.
  package func findings(for run: RunSnapshot, at location: RunLocation, context: GateContext) async -> [Finding] {
    let stop = Interrupter()
    let executor = ThreadExecutor(name: "validator")
    defer { executor.shutdown() }
    return await withTaskCancellationHandler {
      await executor.run { findings(ValidatorInput(run, location, context), stop: stop) }
    } onCancel: {
      stop.interrupt()
    }
  }

  /// The same on the caller's thread. Blocking.
  func findings(_ input: ValidatorInput, stop: Interrupter) -> [Finding] {
    do throws(ValidatorFailure) {
      let program = try ProgramFile.find(command.first ?? "")
      var process = try ValidatorProcess(
        program: program, arguments: command, environment: ValidatorEnvironment.variables(), timeout: timeout, outputLimit: outputLimit)
      let output = try process.converse(input, stop: stop)
      return try ValidatorOutput.findings(parsing: output, validator: name)
    } catch {
      return [failed(error)]
    }
  }

  /// Whether the program can be started, for `check`: where it lies.
  package func locate() throws(ValidatorFailure) -> String { try ProgramFile.find(command.first ?? "") }

  private func failed(_ failure: ValidatorFailure) -> Finding {
    var detail = "the validator \(name) \(failure.reason)"
    let said = failure.said.drop { $0 == 0x0a || $0 == 0x20 }
    if !said.isEmpty { detail += "; it said: \(quoted(said))" }
    return Finding(
      .validatorFailed, .hard, path: nil, detail: detail,
      hint: "Nothing is known about the run, so it waits. \(failure.hint)", validator: name)
  }

  /// The end of standard error on one line.
  private func quoted(_ text: ArraySlice<UInt8>) -> String {
    let end = text.lastIndex { $0 != 0x0a && $0 != 0x20 }.map { $0 + 1 } ?? text.startIndex
    return "“\(displayText(of: text[..<end]))”"
  }
}

/// Why a validator's answer is none.
package struct ValidatorFailure: Error, Hashable, Sendable {
  /// What it did, as the rest of a sentence that starts with its name.
  package let reason: String
  /// The next step.
  package let hint: String
  /// The end of what it wrote to standard error.
  package var said: [UInt8] = []

  init(_ reason: String, hint: String = "Mend the program, or take it out of gate.validators, and check again.") {
    self.reason = reason
    self.hint = hint
  }
}

/// Finding a program's file.
enum ProgramFile {
  /// The path of a program. A name without `/` is looked up in `PATH`, as a shell does.
  static func find(_ program: String) throws(ValidatorFailure) -> String {
    let hint = "Correct gate.validators in the configuration, or install the program."
    guard !program.isEmpty else { throw ValidatorFailure("has no name", hint: hint) }
    if program.utf8.contains(UInt8(ascii: "/")) {
      var status = stat()
      guard stat(program, &status) == 0 else {
        throw ValidatorFailure("cannot be started: \(displayText(program)): \(errorText(errno))", hint: hint)
      }
      guard isProgram(program) else {
        throw ValidatorFailure(
          "cannot be started: \(displayText(program)) is no file that this user may execute",
          hint: "Make it executable (chmod +x), or correct its path.")
      }
      return program
    }
    for folder in ValidatorEnvironment.searchPath.split(separator: ":") where folder.utf8.first == UInt8(ascii: "/") {
      let candidate = "\(folder)/\(program)"
      if isProgram(candidate) { return candidate }
    }
    throw ValidatorFailure(
      "cannot be started: no program of this name is in PATH (\(displayText(ValidatorEnvironment.searchPath)))", hint: hint)
  }

  private static func isProgram(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && access(path, X_OK) == 0
  }
}

/// What a validator finds in its environment: what programs need to run, and none of what the service may have been given as a secret.
enum ValidatorEnvironment {
  private static let passedOn: Set<String> = ["HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER"]

  static var searchPath: String { value(of: "PATH") ?? "/usr/local/bin:/usr/bin:/bin" }

  /// `NAME=value` each.
  static func variables() -> [String] {
    var result: [String] = []
    var pointer = environ
    while let entry = pointer.pointee {
      let text = String(cString: entry)
      let name = text.prefix { $0 != "=" }
      if passedOn.contains(String(name)) || name.hasPrefix("LC_") { result.append(text) }
      pointer += 1
    }
    if value(of: "PATH") == nil { result.append("PATH=\(searchPath)") }
    return result
  }

  private static func value(of name: String) -> String? { getenv(name).map { String(cString: $0) } }
}
