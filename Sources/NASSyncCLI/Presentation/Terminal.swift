import Glibc

/// What is known of the thing that an output goes to.
package struct Terminal: Hashable, Sendable {
  /// Columns; nil where the output is no terminal, and nothing should be drawn or cut.
  package let width: Int?
  /// Rows, for what is drawn from the top.
  package let height: Int
  /// Whether names beyond ASCII, and block characters, can be shown: the locale says UTF-8.
  package let unicode: Bool
  /// Whether colour is welcome: a terminal that is not `dumb`, and no NO_COLOR.
  package let colour: Bool

  package init(width: Int?, height: Int = 24, unicode: Bool, colour: Bool) {
    self.width = width
    self.height = height
    self.unicode = unicode
    self.colour = colour
  }

  /// - Parameters:
  ///   - descriptor: 1 for standard output, 2 for standard error.
  ///   - environment: Names and values of the process's environment.
  package init(descriptor: Int32, environment: [String: String]) {
    let locale = [environment["LC_ALL"], environment["LC_CTYPE"], environment["LANG"]].compactMap { $0 }.first { !$0.isEmpty } ?? ""
    unicode = locale.lowercased().contains("utf-8") || locale.lowercased().contains("utf8")
    guard isatty(descriptor) == 1 else {
      width = nil
      height = 24
      colour = false
      return
    }
    var size = winsize()
    let known = ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0
    width = known ? Int(size.ws_col) : 80
    height = known && size.ws_row > 0 ? Int(size.ws_row) : 24
    colour = environment["TERM"] != "dumb" && (environment["NO_COLOR"] ?? "").isEmpty
  }
}
