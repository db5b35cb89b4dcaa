// infinicore/library.hpp -- find a vendor's shared library at run time, remembering every place looked in.
// Nothing of a vendor's is linked: a wheel installs anywhere, and says what is missing where it is missing.
#pragma once
#include "plugin.hpp"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace infini {

// Python's sys.path, where this process runs Python. Through functions that every release of it has, looked
// up by name: a plug-in is not linked with Python, for it may serve a C program. Takes the GIL, which core
// does not hold while a plug-in works.
inline std::vector<std::string> python_path() {
  std::vector<std::string> found;
  const auto python = [](const char *name, auto *&function) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(RTLD_DEFAULT, name));
    return function != nullptr;
  };
  int (*running)(), (*take_gil)();
  void (*give_gil)(int), (*release)(void *), (*forget_error)();
  void *(*from_sys)(const char *);
  void *(*item)(void *, ssize_t);
  const char *(*text)(void *, ssize_t *);
  if (!python("Py_IsInitialized", running) || !python("PyGILState_Ensure", take_gil) ||
      !python("PyGILState_Release", give_gil) || !python("Py_DecRef", release) ||
      !python("PyErr_Clear", forget_error) || !python("PySys_GetObject", from_sys) ||
      !python("PySequence_GetItem", item) || !python("PyUnicode_AsUTF8AndSize", text) || running() == 0)
    return found;
  const int gil = take_gil();
  void *folder = nullptr;
  void *const path = from_sys("path");
  for (ssize_t i = 0; path != nullptr && (folder = item(path, i)) != nullptr; ++i, release(folder))
    if (const char *name = text(folder, nullptr); name != nullptr)
      found.emplace_back(name);
    else
      forget_error();  // no text
  forget_error();      // the list's end
  give_gil(gil);
  return found;
}

// The folders where pip puts the wheels of vendor libraries, named site-packages or dist-packages: those of
// Python's path, in its order, then those that this process loaded a library from, such as this plug-in's.
inline std::vector<std::string> package_folders() {
  std::vector<std::string> found;
  const auto add = [&](const std::string &path) {
    for (const char *name : {"/site-packages/", "/dist-packages/"})
      if (const size_t at = path.rfind(name); at != std::string::npos) {
        const std::string folder = path.substr(0, at + std::string(name).size() - 1);
        if (std::find(found.begin(), found.end(), folder) == found.end()) found.push_back(folder);
      }
  };
  for (const std::string &folder : python_path()) add(folder + "/");
  dl_iterate_phdr(
      [](dl_phdr_info *info, size_t, void *data) {
        if (info->dlpi_name != nullptr) (*static_cast<decltype(add) *>(data))(info->dlpi_name);
        return 0;
      },
      const_cast<void *>(static_cast<const void *>(&add)));
  return found;
}

// The environment variables of `names` that are set, with each of `below` appended.
inline std::vector<std::string> environment_folders(std::initializer_list<const char *> names,
                                                    std::initializer_list<const char *> below) {
  std::vector<std::string> found;
  for (const char *name : names)
    if (const char *value = std::getenv(name); value != nullptr && *value != '\0')
      for (const char *folder : below) found.push_back(std::string(value) + folder);
  return found;
}

// One library of a vendor's. Never closed: what it handed out may be used until the process ends.
class Library {
 public:
  struct Step {
    std::string what, where, result;
  };

  // Look for the sonames in `names`, best first: a copy that the process has already, then in the wheels of
  // this Python (`wheels` are folders below site-packages, best first) and in its conda environment, where
  // there are such wheels at all; the dynamic loader's path, and `folders`. What helps where it is missing is
  // `advice`: "pip install ...".
  Library(std::vector<std::string> names, const std::vector<std::string> &wheels,
          const std::vector<std::string> &folders, std::string advice = "")
      : names_(std::move(names)), advice_(std::move(advice)) {
    for (const std::string &name : names_)
      if (load(name, name, "this process", RTLD_NOLOAD)) return;
    std::vector<std::string> packaged;
    if (!wheels.empty()) {
      const std::vector<std::string> packages = package_folders();
      for (const std::string &wheel : wheels)
        for (const std::string &package : packages) packaged.push_back(package + "/" + wheel);
      for (std::string &folder : environment_folders({"CONDA_PREFIX"}, {"/lib64", "/lib"}))
        packaged.push_back(std::move(folder));
    }
    for (const std::string &folder : packaged)
      if (in_folder(folder)) return;
    for (const std::string &name : names_)
      if (load(name, name, "the dynamic loader's path")) return;
    for (const std::string &folder : folders)
      if (in_folder(folder)) return;
  }

  explicit operator bool() const { return handle_ != nullptr; }
  const std::string &name() const { return names_.front(); }
  // The file that was found; empty where none was.
  const std::string &path() const { return path_; }
  const std::vector<Step> &trail() const { return trail_; }

  // Tell core where was looked; during open() only.
  void report() const {
    for (const Step &step : trail_) host->trail(step.what.c_str(), step.where.c_str(), step.result.c_str());
  }

  // The whole search in one sentence, for errors after open().
  std::string story() const {
    std::string text = "looked for " + names_.front();
    for (size_t i = 1; i < names_.size(); ++i) text += (i + 1 < names_.size() ? ", " : " and ") + names_[i];
    std::string where, oddities;
    for (const Step &step : trail_) {
      if (where.find(step.where) == std::string::npos) where += (where.empty() ? " in " : ", ") + step.where;
      if (step.result != "not found") oddities += "; " + step.what + ": " + step.result;
    }
    return text + where + oddities;
  }

  // Its function `symbol`; nullptr where it has none.
  template <class Function> void find(const char *symbol, Function *&function) const {
    function = handle_ != nullptr ? reinterpret_cast<Function *>(dlsym(handle_, symbol)) : nullptr;
  }

  // Its function `symbol`; throws where it has none.
  template <class Function> void require(const char *symbol, Function *&function) const {
    if (handle_ == nullptr)
      throw Error(INFINI_STATUS_UNAVAILABLE, name() + " is not on this machine" +
                                                 (advice_.empty() ? "" : ": " + advice_) + " (" + story() +
                                                 ")");
    find(symbol, function);
    if (function == nullptr)
      throw Error(INFINI_STATUS_UNAVAILABLE,
                  path_ + " has no function " + symbol + ": install a newer version of that library");
  }

 private:
  bool in_folder(const std::string &folder) {
    return std::any_of(names_.begin(), names_.end(),
                       [&](const std::string &name) { return load(name, folder + "/" + name, folder); });
  }

  bool load(const std::string &name, const std::string &path, const std::string &where, int flags = 0) {
    dlerror();
    handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | flags);
    const char *why = handle_ == nullptr ? dlerror() : nullptr;
    const std::string text = why != nullptr ? why : "";
    // That a process has not loaded a library yet is the usual case, and no news to anybody.
    if (handle_ == nullptr && (flags & RTLD_NOLOAD) != 0) return false;
    const bool absent =
        text.empty() || (text.find("No such file") != std::string::npos && text.find(path) == 0);
    trail_.push_back({name, where, handle_ != nullptr ? "found" : absent ? "not found" : text});
    if (link_map *map = nullptr; handle_ != nullptr && dlinfo(handle_, RTLD_DI_LINKMAP, &map) == 0)
      path_ = map->l_name;
    return handle_ != nullptr;
  }

  std::vector<std::string> names_;
  std::string advice_;
  void *handle_ = nullptr;
  std::string path_;
  std::vector<Step> trail_;
};

}  // namespace infini
