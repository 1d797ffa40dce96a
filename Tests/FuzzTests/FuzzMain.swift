import Foundation

/// What libFuzzer calls, again and again. `NASSYNC_FUZZ_TARGET` names what is fed.
@_cdecl("LLVMFuzzerTestOneInput") public func testOneInput(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  chosenTarget.run(Array(UnsafeBufferPointer(start: data, count: count)))
  return 0
}

private let chosenTarget: FuzzTarget = {
  let name = ProcessInfo.processInfo.environment["NASSYNC_FUZZ_TARGET"] ?? ""
  if let named = FuzzTarget(rawValue: name) { return named }
  do {
    let known = FuzzTarget.allCases.map(\.rawValue).joined(separator: ", ")
    FileHandle.standardError.write(Data("NASSYNC_FUZZ_TARGET is “\(name)”; there are \(known)\n".utf8))
    exit(2)
  }
}()
