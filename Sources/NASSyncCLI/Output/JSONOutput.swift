import Foundation
import NASSync
import SyncModel

/// How values look with `--json`: keys in snake case and sorted, dates in ISO 8601 with `Z`.
enum JSONOutput {
  /// One document, without a newline at its end. A file's name in it is the name itself, in escapes where a terminal would act on it.
  static func text(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.dateEncodingStrategy = .iso8601
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return escaped(String(decoding: try encoder.encode(value), as: UTF8.self))
  }

  /// The same text with everything escaped that a terminal or a page would act on. JSON itself wants that of control characters below U+0020 alone;
  /// outside of its strings there is none but line ends.
  static func escaped(_ text: String) -> String {
    var result = ""
    result.reserveCapacity(text.utf8.count)
    for scalar in text.unicodeScalars {
      if scalar == "\n" || (" "..."~").contains(scalar) || displayText(String(scalar)) == String(scalar) {
        result.unicodeScalars.append(scalar)
      } else {
        for unit in String(scalar).utf16 {
          let digits = String(unit, radix: 16)
          result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        }
      }
    }
    return result
  }
}

/// `{"error": {"kind", "message", "retry", "hint"}}`, of one run among several with its `run_path`, of a configuration with its `problems`.
struct ErrorDocument: Encodable, Sendable {
  struct Body: Encodable, Sendable {
    let kind: String
    let message: String
    let retry: Bool
    let hint: String
    let problems: [Place]?
  }

  /// What is wrong at one place of the configuration.
  struct Place: Encodable, Sendable {
    let file: String?
    let line: Int?
    let column: Int?
    let keyPath: String
    let message: String
    let hint: String
  }

  let runPath: String?
  let error: Body

  /// - Parameter run: As typed; nil where the error is not one run's among several.
  init(_ failure: CommandFailure, run: String? = nil) {
    runPath = run
    let places = failure.problems.map {
      Place(file: $0.file, line: $0.line, column: $0.column, keyPath: $0.keyPath, message: $0.message, hint: $0.hint)
    }
    error = Body(
      kind: failure.kind, message: failure.messages.joined(separator: "\n"), retry: failure.retry,
      hint: failure.hint.isEmpty ? failure.problems.first?.hint ?? "" : failure.hint, problems: places.isEmpty ? nil : places)
  }
}

/// What became of one of the runs that a command was given.
enum RunAnswer<Value: Encodable & Sendable>: Encodable, Sendable {
  case value(Value)
  case failure(run: String, CommandFailure)

  func encode(to encoder: any Encoder) throws {
    switch self {
    case .value(let value): try value.encode(to: encoder)
    case .failure(let run, let failure): try ErrorDocument(failure, run: run).encode(to: encoder)
    }
  }
}
