import CSQLite
import Glibc
import Synchronization
import TestSupport

/// A disk under SQLite whose reads of chosen files fail, as the kernel tells of a bad sector or a loose cable.
///
/// SQLite's own way to its files, which it is told to take by default: only files below `folder` fail, so that other tests go on beside it.
enum FailingDisk {
  private struct Plan {
    var prefix = ""
    /// Reads that are let through before the first that fails.
    var before = 0
    /// How many fail then.
    var failures = 0
  }

  private static let plan = Mutex(Plan())
  /// The methods of ordinary files, and the same with `xRead` replaced; made once, alive for ever.
  private struct Methods: @unchecked Sendable {
    // Written once, before any file is opened with them.
    let original: UnsafePointer<sqlite3_io_methods>
    let failing: UnsafeMutablePointer<sqlite3_io_methods>
  }
  private static let methods = Mutex<Methods?>(nil)
  private static let names = Mutex<[UInt: String]>([:])

  /// Runs `body` while reads below a folder fail: the first `before` succeed, then `failures` fail.
  static func with<T>(
    _ folder: String, before: Int = 0, failures: Int = .max, isolation: isolated (any Actor)? = #isolation,
    _ body: () async throws -> T
  ) async throws -> T {
    _ = registered
    plan.withLock { $0 = Plan(prefix: folder, before: before, failures: failures) }
    defer { plan.withLock { $0 = Plan() } }
    return try await body()
  }

  /// SQLite's default disk with an `xOpen` of ours, which becomes the default one for files that are opened from now on.
  private static let registered: Bool = {
    guard let standard = sqlite3_vfs_find(nil) else { return false }
    let ours = UnsafeMutablePointer<sqlite3_vfs>.allocate(capacity: 1)
    ours.initialize(to: standard.pointee)
    ours.pointee.zName = UnsafePointer(strdup("failing"))
    ours.pointee.pNext = nil
    ours.pointee.pAppData = standard.pointee.pAppData
    ours.pointee.xOpen = { vfs, name, file, flags, out in
      guard let file, let standard = sqlite3_vfs_find("unix") else { return SQLITE_ERROR }
      let status = standard.pointee.xOpen(vfs, name, file, flags, out)
      guard status == SQLITE_OK, let name, flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL) != 0 else { return status }
      FailingDisk.replace(file, named: String(cString: name))
      return status
    }
    return sqlite3_vfs_register(ours, 1) == SQLITE_OK
  }()

  private static func replace(_ file: UnsafeMutablePointer<sqlite3_file>, named name: String) {
    names.withLock { $0[UInt(bitPattern: file)] = name }
    let made = methods.withLock { methods -> Methods in
      if let methods, methods.original == file.pointee.pMethods { return methods }
      let failing = UnsafeMutablePointer<sqlite3_io_methods>.allocate(capacity: 1)
      failing.initialize(to: file.pointee.pMethods.pointee)
      // Nothing is mapped past `xRead`.
      failing.pointee.iVersion = 2
      failing.pointee.xRead = { file, buffer, count, offset in FailingDisk.read(file, buffer, count, offset) }
      let made = Methods(original: file.pointee.pMethods, failing: failing)
      methods = made
      return made
    }
    file.pointee.pMethods = UnsafePointer(made.failing)
  }

  private static func read(
    _ file: UnsafeMutablePointer<sqlite3_file>?, _ buffer: UnsafeMutableRawPointer?, _ count: Int32, _ offset: sqlite3_int64
  ) -> Int32 {
    let name = names.withLock { $0[UInt(bitPattern: file)] } ?? ""
    let fails = plan.withLock { plan -> Bool in
      guard !plan.prefix.isEmpty, name.hasPrefix(plan.prefix), plan.failures > 0 else { return false }
      guard plan.before == 0 else {
        plan.before -= 1
        return false
      }
      plan.failures -= 1
      return true
    }
    // What unixRead makes of EIO.
    if fails { return SQLITE_IOERR | (33 << 8) }
    guard let original = methods.withLock({ $0?.original }) else { return SQLITE_IOERR }
    return original.pointee.xRead(file, buffer, count, offset)
  }
}
