import NASSync

/// Does the same to each run that a command was given: goes on after an error, and ends with the most serious exit code.
struct RunBatch: Sendable {
  let runs: [String]
  /// Whether `--json` prints an array even for one run: where the runs were not named one by one.
  var alwaysArray = false

  /// - Parameters:
  ///   - body: What is done to a run.
  ///   - show: Shows the answer to a person, and says what it means for the exit code.
  func run<Value: Encodable & Sendable>(
    _ console: Console, _ body: (String) async throws(CommandFailure) -> Value, show: (Value) async -> ExitCode
  ) async -> ExitCode {
    var answers: [RunAnswer<Value>] = []
    var codes: [ExitCode] = []
    for run in runs {
      do throws(CommandFailure) {
        let value = try await body(run)
        answers.append(.value(value))
        codes.append(await show(value))
      } catch {
        answers.append(.failure(run: run, error))
        codes.append(error.exit)
        await console.complain(error.lines)
      }
    }
    if !alwaysArray, runs.count == 1, let only = answers.first {
      switch only {
      case .value(let value): await console.document(value)
      case .failure(_, let failure): await console.document(ErrorDocument(failure))
      }
    } else {
      await console.document(answers)
    }
    return ExitCode.worst(codes)
  }
}
