package route

import "testing"

func TestPath(t *testing.T) {
	f := func(pattern string, matches, others []string) {
		t.Helper()
		test := compilePath(pattern)
		for _, path := range matches {
			if !test.match(path) {
				t.Errorf("%q doesn't match %q", pattern, path)
			}
		}
		for _, path := range others {
			if test.match(path) {
				t.Errorf("%q matches %q", pattern, path)
			}
		}
	}
	f("/upload/*", []string{"/upload/", "/upload/a/b", "/%75pload/a", "/upload/%2F", "/upload/%", "/upload/../x"},
		[]string{"", "/upload", "/uploads", "upload/", "/upload%2Fa", "/upload%2fa", "/Upload/a", "/x/../upload/a", "//upload/a"})
	f("/upload*", []string{"/upload", "/uploads", "/upload/a", "/upload%2Fa"}, []string{"/uploa", "/"})
	f("/*", []string{"/", "/a", "//"}, []string{"", "*", "%2F", "a"})
	f("/", []string{"/"}, []string{"", "/a", "//", "%2F"})
	f("/a", []string{"/a", "/%61"}, []string{"/", "/a/", "/A", "/%41", "/a%", "/a%00", "/%6", "/%", "/a%2F"})
	// An encoded slash equals only itself.
	f("/a%2Fb", []string{"/a%2Fb", "/a%2fb", "/%61%2Fb"}, []string{"/a/b", "/a%252Fb"})
	f("/a%2fb*", []string{"/a%2Fb", "/a%2Fb/c"}, []string{"/a/b", "/a%2F"})
	f("/a%252Fb", []string{"/a%252Fb", "/a%252%46b"}, []string{"/a%2Fb", "/a/b"})
	// Text that isn't ASCII, and what can't be typed as it is.
	f("/café", []string{"/café", "/caf%C3%A9", "/caf%c3%a9"}, []string{"/caf", "/caf%C3", "/cafe", "/caf%E9"})
	f("/caf%C3%A9", []string{"/café", "/caf%C3%A9"}, []string{"/caf%C3%A8"})
	f("/a%20b", []string{"/a%20b", "/a b"}, []string{"/a+b", "/ab"})
	f("/a%2A", []string{"/a*", "/a%2A", "/a%2a"}, []string{"/a", "/ab"})
	f("/a%3Fb", []string{"/a%3Fb"}, []string{"/a"})
	// What is no escape stands for itself.
	f("/100%", []string{"/100%", "/100%25"}, []string{"/100", "/100%2"})
	f("/100%*", []string{"/100%", "/100%zz", "/100%25"}, []string{"/100", "/100%41"})
	f("/%zz", []string{"/%zz", "/%25zz"}, []string{"/zz"})
}
