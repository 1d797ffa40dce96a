import CLibArchive
import SyncModel
import Transport

/// Files as the stream that `tar -x` reads: GNU's format, in which a name is its bytes, however long.
enum ArchiveStream {
  /// One file.
  struct File {
    /// Where it goes, seen from the folder in which it is unpacked.
    let name: [UInt8]
    let content: [UInt8]
    /// Seconds since 1970, as SFTP says them: what does not fit is the nearest that does.
    let modified: UInt32
  }

  /// Ends the stream: two blocks of zeros, and as many as make up a record of 20 blocks, in which `tar` reads.
  static func end(after length: Int) -> [UInt8] {
    let whole = length + 2 * block
    return [UInt8](repeating: 0, count: 2 * block + (record - whole % record) % record)
  }

  /// What a file takes in a stream: its header, and its content filled up to whole blocks.
  static func weight(of content: [UInt8]) -> Int { block + rounded(content.count) }

  private static let block = 512
  private static let record = 20 * block

  /// The files' part of a stream; parts follow each other, and `end(after:)` the last one.
  /// - Parameter mode: Permission bits of each file.
  /// - Throws: `failure` of kind `protocol` where the library refuses.
  static func part(_ files: [File], mode: UInt32) throws(TransportError) -> [UInt8] {
    guard let archive = archive_write_new(), let entry = archive_entry_new() else { throw refusal("out of memory") }
    // libarchive keeps the address and writes there how much of the memory it has used.
    let counter = UnsafeMutablePointer<Int>.allocate(capacity: 1)
    counter.initialize(to: 0)
    defer {
      archive_entry_free(entry)
      archive_write_free(archive)
      counter.deallocate()
    }
    // A header, and for a long name a header and the name in front of it; and the end, which is cut off again.
    let length = files.reduce(2 * block) { $0 + 3 * block + rounded($1.name.count + 1) + rounded($1.content.count) }
    var used = 0
    var part = [UInt8](repeating: 0, count: length)
    let problem: String? = part.withUnsafeMutableBytes { memory in
      guard archive_write_set_format_gnutar(archive) == ARCHIVE_OK, archive_write_set_bytes_per_block(archive, 0) == ARCHIVE_OK,
        archive_write_open_memory(archive, memory.baseAddress, memory.count, counter) == ARCHIVE_OK
      else { return failed(archive) }
      for file in files {
        archive_entry_clear(entry)
        (file.name + [0]).withUnsafeBytes { name in
          archive_entry_set_pathname(entry, name.baseAddress?.assumingMemoryBound(to: CChar.self))
        }
        archive_entry_set_filetype(entry, regularFile)
        archive_entry_set_perm(entry, mode_t(mode))
        archive_entry_set_size(entry, Int64(file.content.count))
        archive_entry_set_mtime(entry, Int(file.modified), 0)
        guard archive_write_header(archive, entry) == ARCHIVE_OK else { return failed(archive) }
        let written = file.content.withUnsafeBytes { archive_write_data(archive, $0.baseAddress, $0.count) }
        guard written == file.content.count, archive_write_finish_entry(archive) == ARCHIVE_OK else { return failed(archive) }
      }
      used = counter.pointee
      // What is left to be freed is freed by closing alone.
      return archive_write_close(archive) == ARCHIVE_OK ? nil : failed(archive)
    }
    if let problem { throw refusal(problem) }
    guard used % block == 0, used >= files.reduce(0, { $0 + block + rounded($1.content.count) }) else {
      throw refusal("the stream is shorter than its files")
    }
    part.removeLast(length - used)
    return part
  }

  /// `AE_IFREG`, a macro that Swift does not import.
  private static let regularFile: UInt32 = 0o100000

  private static func rounded(_ count: Int) -> Int { (count + block - 1) / block * block }

  /// Nothing more is written, not even when it is freed.
  private static func failed(_ archive: OpaquePointer) -> String {
    let words = archive_error_string(archive).map { String(cString: $0) } ?? "it does not say why"
    archive_write_fail(archive)
    return words
  }

  private static func refusal(_ why: String) -> TransportError {
    .failure(
      SyncFailure(.protocol, "files cannot be put into one stream: \(displayText(why))", hint: "They are sent one by one."),
      sessionLost: false)
  }
}
