import Foundation
import Glibc
import SyncModel

/// Who runs this process, from the kernel and the user database: `$USER` and `$LOGNAME` are what anybody likes.
enum OperatorName {
  /// Of this process.
  static let current: String = describe(
    user: getuid(), login: loginUser(), sudo: ProcessInfo.processInfo.environment["SUDO_UID"].flatMap { uid_t($0) }, name: name(of:))

  /// The name of the real user. Where somebody logged in as another and became this one, that is said as well: `root (login: anna)`.
  /// - Parameters:
  ///   - user: The real user id.
  ///   - login: The one that the kernel noted when the session began; nil where it noted none.
  ///   - sudo: `$SUDO_UID`. Counts for root only, who alone could have become anybody without it.
  static func describe(user: uid_t, login: uid_t?, sudo: uid_t?, name: (uid_t) -> String) -> String {
    if let login, login != user { return "\(name(user)) (login: \(name(login)))" }
    if user == 0, let sudo, sudo != 0 { return "\(name(user)) (sudo: \(name(sudo)))" }
    return name(user)
  }

  /// `loginuid` of the kernel's audit; nil for a service, a container or a kernel without it.
  private static func loginUser() -> uid_t? {
    guard let text = try? String(contentsOfFile: "/proc/self/loginuid", encoding: .utf8) else { return nil }  // not every kernel has it
    guard let id = uid_t(text.trimmingCharacters(in: .whitespacesAndNewlines)), id != .max else { return nil }
    return id
  }

  /// As the user database has it; `uid 1234` for one that it does not know.
  static func name(of id: uid_t) -> String {
    var size = 1 << 12
    while size <= 1 << 20 {
      var entry = passwd()
      var found: UnsafeMutablePointer<passwd>?
      var buffer = [CChar](repeating: 0, count: size)
      let (status, name) = buffer.withUnsafeMutableBufferPointer { buffer in
        guard let base = buffer.baseAddress else { return (ENOMEM, String?.none) }
        let status = getpwuid_r(id, &entry, base, buffer.count, &found)
        return (status, found?.pointee.pw_name.map { String(cString: $0) })
      }
      if status == 0, let name, !name.isEmpty { return name }
      guard status == ERANGE else { break }
      size *= 2
    }
    return "uid \(id)"
  }
}
