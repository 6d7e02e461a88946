// Works out which bytes of a JSON object have to go so that it is the same object without some of
// its fields: the commas go right wherever the fields stood.
//
// THREADS: belongs to its caller.
#pragma once

#include <vector>

#include "api/request.h"

namespace penstock::api {

// Told every field of the object in order, as the offsets of its key's first quote and of the byte
// behind its value. Neighbours that are cut make one splice. Splices of what is inside of a value
// that stays may be added between the two calls for it.
class FieldCutter {
 public:
  explicit FieldCutter(std::vector<Splice>* splices) : splices_(splices) {}
  void Keep(size_t key_begin);
  void Kept(size_t value_end) { last_end_ = value_end; }
  void Cut(size_t key_begin, size_t value_end);
  void Finish();  // after the last field
  bool keeps_one() const { return keeps_one_; }

 private:
  void Close(size_t end);
  void Add(size_t begin, size_t end);

  std::vector<Splice>* splices_;
  bool keeps_one_ = false;  // a field before this one stays
  bool open_ = false;       // the first fields are cut, up to the next key that stays
  size_t open_begin_ = 0;
  size_t last_end_ = 0;
};

}  // namespace penstock::api
