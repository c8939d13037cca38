# One folder under src/ is one room: a static library of its own *.cpp, without its sub-folders. A layer is a room, or a
# folder of rooms with what they share at its root. All *_test.cpp of a layer make one test program; each *_fuzz.cpp is a
# fuzz target (a replay program over its corpus everywhere, with libFuzzer in the fuzz preset).

add_library(celslm_options INTERFACE)
target_compile_options(celslm_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
  -Wno-missing-field-initializers)  # designated initializers leave the rest at their defaults, on purpose
if(CELSLM_WERROR)
  target_compile_options(celslm_options INTERFACE -Werror)
endif()
if(CELSLM_SANITIZE)
  target_compile_options(celslm_options INTERFACE -fsanitize=${CELSLM_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
  target_link_options(celslm_options INTERFACE -fsanitize=${CELSLM_SANITIZE})
  # Instrumented code makes g++ take optional values for ones that are read before they are set (its manual warns of this);
  # the build without sanitizers keeps the warning.
  target_compile_options(celslm_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
endif()
if(CELSLM_FUZZ)
  target_compile_options(celslm_options INTERFACE -fsanitize=fuzzer-no-link)  # or the fuzzer sees no path inside our libraries
endif()

# celslm_room(FOLDER DEPS ROOMS... LIBS LIBRARIES...): DEPS are the rooms that its files may include, and no others
# (scripts/check-includes reads these lines).
function(celslm_room folder)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "DEPS;LIBS")
  string(REPLACE "/" "_" room ${folder})
  string(REPLACE "/" "_" deps "${arg_DEPS}")
  list(TRANSFORM deps PREPEND celslm_)

  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${folder}/*.cpp)
  set(fuzzers ${sources})
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "(_test|_fuzz|/main)\\.cpp$")
  if(sources)
    add_library(celslm_${room} STATIC ${sources})
    target_include_directories(celslm_${room} PUBLIC ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(celslm_${room} PUBLIC ${deps} ${arg_LIBS} PRIVATE celslm_options)
  else()
    add_library(celslm_${room} INTERFACE)
    target_include_directories(celslm_${room} INTERFACE ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(celslm_${room} INTERFACE ${deps} ${arg_LIBS})
  endif()

  string(REGEX REPLACE "/.*" "" layer ${folder})
  set_property(GLOBAL APPEND PROPERTY CELSLM_ROOMS_OF_${layer} celslm_${room})
  foreach(source IN LISTS fuzzers)
    celslm_fuzz_target(celslm_${room} ${source})
  endforeach()
endfunction()

function(celslm_fuzz_target library source)
  get_filename_component(name ${source} NAME_WE)
  set(corpus ${CMAKE_SOURCE_DIR}/tests/corpus/${name})
  if(CELSLM_FUZZ)
    add_executable(${name} ${source})
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    add_executable(${name} ${source} ${CMAKE_SOURCE_DIR}/tests/support/fuzz_replay.cpp)
    add_test(NAME ${name}_replay COMMAND ${name} ${corpus})
  endif()
  target_link_libraries(${name} PRIVATE ${library} celslm_options)
endfunction()

# One program of all the tests of a layer. NEEDS: libraries of tests/support, and rooms of other layers.
function(celslm_layer_tests layer)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "NEEDS")
  file(GLOB_RECURSE tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${layer}/*_test.cpp)
  get_property(rooms GLOBAL PROPERTY CELSLM_ROOMS_OF_${layer})
  add_executable(${layer}_test ${tests})
  target_link_libraries(${layer}_test PRIVATE ${rooms} ${arg_NEEDS} celslm_options GTest::gmock_main)
  target_include_directories(${layer}_test PRIVATE ${CMAKE_SOURCE_DIR})
  add_test(NAME ${layer} COMMAND ${layer}_test WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})  # some read models/ and docs/
  set_tests_properties(${layer} PROPERTIES TIMEOUT 900)
endfunction()
