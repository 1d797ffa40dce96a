import CLinux
import Glibc
import Intake
import SyncModel

/// Asks the kernel which files of a run some program has open for writing.
///
/// Blocking: call it on a `ThreadExecutor`.
package enum WriterProbe {
  /// Those of the files that are open for writing. A file whose owner is another user, or on a file system without leases, is not told of.
  package static func beingWritten(_ files: [RelativePath], in run: RunFolder) -> [RelativePath] {
    files.filter { path in
      // What is no regular file is not even opened: that alone can mean something to a device.
      guard let place = Place(path, in: run) else { return false }
      var status = stat()
      guard withCString(place.name, { fstatat(place.folder.raw, $0, &status, AT_SYMLINK_NOFOLLOW) }) == 0, fileType(status) == S_IFREG
      else { return false }
      let raw = openName(place.folder.raw, place.name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW)
      guard raw >= 0 else { return false }
      // Closing the descriptor gives the lease back.
      let file = Descriptor(owning: raw)
      return withExtendedLifetime(file) { clinux_read_lease(file.raw) == 1 }
    }
  }
}
