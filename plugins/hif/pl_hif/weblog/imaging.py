def findcont_page(page, ctx, result): page.section("Result")
uvcontsub_page=makeimlist_page=makeimages_page=findcont_page
