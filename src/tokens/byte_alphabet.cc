#include "tokens/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "tokens/unicode.h"

namespace penstock::tokens {
namespace {

// Printable Latin-1 stands for itself; the others are written as U+0100, U+0101, ... in their
// order.
struct Alphabet {
  static constexpr uint32_t kCodes = 512;
  std::array<uint32_t, 256> code_of_byte{};
  std::array<int16_t, kCodes> byte_of_code{};

  constexpr Alphabet() {
    byte_of_code.fill(-1);
    uint32_t other = 0x100;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool is_printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
      code_of_byte[byte] = is_printable ? byte : other++;
      byte_of_code[code_of_byte[byte]] = static_cast<int16_t>(byte);
    }
  }
};
constexpr Alphabet kAlphabet;

}  // namespace

bool AppendBytesOf(std::string_view spelled, std::string* out) {
  for (size_t at = 0; at < spelled.size();) {
    const Char here = CharAt(spelled, at);
    if (here.code >= Alphabet::kCodes || kAlphabet.byte_of_code[here.code] < 0) return false;
    out->push_back(static_cast<char>(kAlphabet.byte_of_code[here.code]));
    at += here.size;
  }
  return true;
}

void AppendSpellingOf(std::string_view bytes, std::string* out) {
  for (const char c : bytes) AppendUtf8(kAlphabet.code_of_byte[static_cast<unsigned char>(c)], out);
}

}  // namespace penstock::tokens
