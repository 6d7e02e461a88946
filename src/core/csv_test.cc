#include "core/csv.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

std::string Read(std::string_view csv) {
  std::string seen;
  const auto read = ReadCsv(csv, "t.csv", {"name", "size"}, [&](const CsvRow& row) -> Result<> {
    const auto size = row.Number(1);
    if (!size) return std::unexpected(size.error());
    seen += std::string(row.Text(0)) + "=" + std::to_string(static_cast<int>(*size)) + ";";
    return {};
  });
  return read ? seen : read.error().message;
}

TEST(ReadCsv, FindsColumnsByTheirNames) {
  EXPECT_EQ(Read("name,size\na,1\nb,2"), "a=1;b=2;");
  EXPECT_EQ(Read("# for people\r\n\r\nsize,x,name\r\n1,,a\r\n# more\r\n2,y,\r\n"), "a=1;=2;");
  EXPECT_EQ(Read("name,size\n"), "");
}

TEST(ReadCsv, ComplaintsNameLineColumnAndValue) {
  EXPECT_EQ(Read(""), "t.csv: no header");
  EXPECT_EQ(Read("# only this\n"), "t.csv: no header");
  EXPECT_EQ(Read("\nname,seize\n"), "t.csv:2: no column 'size'");
  EXPECT_EQ(Read("name,size\na,1\nb"), "t.csv:3: 1 cells, not 2");
  EXPECT_EQ(Read("name,size\na,1,\n"), "t.csv:2: 3 cells, not 2");
  for (const std::string bad : {"", "-1", "nan", "1x", " 1", "1e999"}) {
    EXPECT_EQ(Read("name,size\na," + bad + "\n"),
              "t.csv:2: size: '" + bad + "' is no number from 0 on");
  }
}

TEST(SplitCells, KeepsEmptyOnes) {
  EXPECT_EQ(SplitCells(""), std::vector<std::string_view>({""}));
  EXPECT_EQ(SplitCells(",a,"), std::vector<std::string_view>({"", "a", ""}));
}

}  // namespace
}  // namespace penstock
